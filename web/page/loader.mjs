// Modules as text, [name, text], become blobs with addresses; each imports the addresses of those before it.
const addresses = (modules) => {
  const address = new Map();
  for (const [name, source] of modules) {
    const here = new URL(name, "file:///");
    const text = source.replace(/(["'])(\.{1,2}\/[\w./-]+)\1/g, (all, quote, path) => {
      const found = address.get(new URL(path, here).pathname.slice(1));
      return found ? quote + found + quote : all;
    });
    address.set(name, URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
  }
  return address;
};
