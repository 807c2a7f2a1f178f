// Run the script of a page on a canvas that only records, point at its corners, turn it.
"use strict";
const fs = require("fs"), vm = require("vm");
const html = fs.readFileSync(process.argv[2], "utf8");
const [, data] = html.match(/<script type="application\/json" id="data">([\s\S]*?)<\/script>/);
const [, code] = html.match(/<script>\n([\s\S]*?)<\/script>/);
let numbers = true;
const elements = {};
function element(id) {
  const handlers = {}, drawn = [];
  const put = name => (...values) => {
    numbers &&= values.every(v => typeof v !== "number" || Number.isFinite(v));
    drawn.push([name, ...values]);
  };
  const context = new Proxy({}, { get: (held, name) => held[name] ?? put(name) });
  return { handlers, drawn, clientWidth: 560, clientHeight: 430, style: {}, value: "loss",
           textContent: id === "data" ? data : "", getContext: () => context,
           addEventListener: (name, handler) => { handlers[name] = handler }, setPointerCapture() {} };
}
const document = { documentElement: {}, getElementById: id => elements[id] ??= element(id) };
vm.runInNewContext(code, {
  document, addEventListener() {}, getComputedStyle: () => ({ getPropertyValue: () => "black" }),
  matchMedia: () => ({ addEventListener() {} }),
});
const corners = {};
for (const [side, offsetX] of [["left", 63], ["right", 545]])
  for (const [end, offsetY] of [["bottom", 383], ["top", 13]]) {
    elements.map.handlers.pointermove({ offsetX, offsetY });
    corners[`${side} ${end}`] = elements.read.textContent;
  }
const draw = () => { const { drawn } = elements.relief; drawn.length = 0;
                     elements.height.handlers.change(); return drawn.filter(([name]) => name !== "fillText") };
const before = draw();
elements.relief.handlers.keydown({ key: "ArrowLeft", preventDefault() {} });
const after = draw();
console.log(JSON.stringify({
  corners, numbers, about: elements.about.textContent, title: elements.title.textContent,
  faces: before.filter(([name]) => name === "fill").length,
  turned: JSON.stringify(before) !== JSON.stringify(after),
}));
