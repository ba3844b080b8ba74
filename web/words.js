// What the player's parts are called in the languages of locales/. What has gone wrong is said in English everywhere:
// docs/troubleshooting.md goes by those sentences.

export const LANGUAGES = ["zh", "ja", "ko"]; // the order of the texts below

export const WORDS = {
  "Moving scene: drag turns, right drag moves, wheel comes nearer; space plays, arrows step": [
    "动态场景：拖动旋转，右键拖动平移，滚轮缩放；空格键播放，方向键逐帧移动",
    "動くシーン：ドラッグで回転、右ドラッグで移動、ホイールでズーム。スペースで再生、矢印キーでコマ送り",
    "움직이는 장면: 드래그로 회전, 오른쪽 드래그로 이동, 휠로 확대/축소, 스페이스바로 재생, 화살표 키로 한 프레임씩 이동",
  ],
  "Divider between before and after": ["编辑前后的分隔线", "編集前と編集後の境界線", "편집 전후를 나누는 선"],
  "Drag: before on the left, after on the right": [
    "拖动：左侧为编辑前，右侧为编辑后", "ドラッグ：左が編集前、右が編集後", "드래그: 왼쪽이 편집 전, 오른쪽이 편집 후",
  ],
  Before: ["编辑前", "編集前", "편집 전"],
  After: ["编辑后", "編集後", "편집 후"],
  "Play (space)": ["播放（空格键）", "再生（スペース）", "재생(스페이스바)"],
  "Pause (space)": ["暂停（空格键）", "一時停止（スペース）", "일시 정지(스페이스바)"],
  Time: ["时间", "時間", "시간"],
  "A moment back (left arrow)": ["上一时刻（左方向键）", "前の時刻へ（左矢印）", "이전 시점(왼쪽 화살표)"],
  "A moment on (right arrow)": ["下一时刻（右方向键）", "次の時刻へ（右矢印）", "다음 시점(오른쪽 화살표)"],
  "moment {} of {}, {} seconds": ["第 {} 个时刻，共 {} 个，{} 秒", "時刻 {} / {}、{} 秒", "시점 {} / {}, {}초"],
  "Play again and again": ["循环播放", "繰り返し再生", "반복 재생"],
  Speed: ["速度", "速度", "속도"],
  "View from a captured camera": ["从拍摄相机的视角观看", "撮影カメラの視点で見る", "촬영 카메라 시점에서 보기"],
  "free view": ["自由视角", "自由視点", "자유 시점"],
  Background: ["背景", "背景", "배경"],
  scene: ["场景", "シーン", "장면"],
  black: ["黑色", "黒", "검정"],
  white: ["白色", "白", "흰색"],
  grey: ["灰色", "グレー", "회색"],
  checker: ["棋盘格", "市松模様", "체크무늬"],
  "Point size": ["点大小", "点の大きさ", "점 크기"],
  "Back to the first view": ["回到初始视角", "最初の視点に戻る", "처음 시점으로"],
  "Full screen": ["全屏", "全画面", "전체 화면"],
  "Use this camera": ["使用此相机", "このカメラを使う", "이 카메라 사용"],
  "Use this camera: hand the view on to this node's camera output": [
    "使用此相机：把当前视角交给此节点的相机输出",
    "このカメラを使う：今の視点をこのノードのカメラ出力に渡す",
    "이 카메라 사용: 지금 시점을 이 노드의 카메라 출력으로 넘깁니다",
  ],
  "The node's camera is this view now.": [
    "节点的相机现在就是此视角。", "ノードのカメラがこの視点になりました。", "노드의 카메라가 이 시점으로 바뀌었습니다.",
  ],
  Framed: ["已取景", "設定済み", "설정됨"],
  "Run the graph: the scene plays here.": [
    "运行工作流：场景会在这里播放。", "ワークフローを実行すると、ここでシーンが再生されます。", "워크플로를 실행하면 장면이 여기에서 재생됩니다.",
  ],
  "Loading …": ["正在加载…", "読み込み中…", "불러오는 중…"],
};

/**
 * A function that says `text` in `language` ("ja", "zh-CN"), each {} filled with one of `values`.
 * English where there is no translation.
 */
export function translator(language) {
  const which = LANGUAGES.indexOf(String(language ?? "").toLowerCase().split(/[-_]/)[0]);
  return (text, ...values) => {
    const left = [...values];
    return (WORDS[text]?.[which] ?? text).replaceAll("{}", () => left.shift() ?? "");
  };
}
