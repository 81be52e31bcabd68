// Elements of the page: paragraphs, tables, figures.
//
// Loaded after cancellation.js. Uses
//   numbers.js: number

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

const byId = (id) => document.getElementById(id);

const paragraph = (style, ...children) => element("p", { class: style }, ...children);

// A number of the arithmetic. Its attribute has all digits.
const valueElement = (x, digits) => element("output", { "data-value": String(x) }, number(x, digits));

// A table; the first row says which columns have numbers.
function table(headings, rows) {
  const style = (cell) => (cell instanceof HTMLOutputElement ? { class: "number" } : {});
  const head = element("tr", {}, ...headings.map((heading, k) => element("th", style(rows[0][k]), heading)));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", style(cell), cell))));
  const content = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { class: "scroll" }, content);
}

// Nodes as a list in a sentence; a line does not break before a comma.
const commaSeparated = (nodes) => nodes.flatMap((node, k) =>
  [element("span", { class: "listed" }, node, k < nodes.length - 1 ? "," : "."), " "]);

const figure = (content, caption) => element("figure", {}, content, element("figcaption", {}, caption));
