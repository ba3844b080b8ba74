import assert from "node:assert/strict";
import test from "node:test";

import { LANGUAGES, translator, WORDS } from "../../../web/words.js";

test("every text has all languages, and as many places to fill", () => {
  const places = (text) => text.split("{}").length;
  for (const [english, texts] of Object.entries(WORDS)) {
    assert.equal(texts.length, LANGUAGES.length, english);
    for (const text of texts) {
      assert.ok(text.trim() && text !== english, english);
      assert.equal(places(text), places(english), english);
    }
  }
});

test("it says what it knows in the language asked for, and English otherwise", () => {
  assert.equal(translator("ja")("Speed"), "速度");
  assert.equal(translator("zh-CN")("Speed"), "速度");
  assert.equal(translator("KO_kr")("frame {} of {}, {} seconds", 2, 8, "0.25"), "프레임 2 / 8, 0.25초");
  for (const language of ["en", "de-AT", "", null, undefined]) {
    assert.equal(translator(language)("frame {} of {}, {} seconds", 2, 8, "0.25"), "frame 2 of 8, 0.25 seconds");
  }
  assert.equal(translator("ja")("what nobody has translated"), "what nobody has translated");
});
