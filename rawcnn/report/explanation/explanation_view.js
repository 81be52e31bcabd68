// How an explanation is drawn: its equation, matrices, terms, steps and result.
//
// Loaded after maps.js. Uses
//   arrays.js: operations, ifHeld
//   terms.js: sum, inOrder, fromLargest
//   numbers.js: number, shown
//   cancellation.js: cancellation
//   elements.js: element, paragraph, valueElement, table
//   maps.js: valueColor
//   view.js (later): state, select

const TERMS = 12; // the largest terms that are named; the rest is summed
const NARROW = 5; // columns of a matrix that every screen has room for
const WIDE = 9; // columns of a matrix that a large screen has room for; of more, the numbers are smaller

// An explanation, with the network's own value if the page holds it.
function drawExplanation(explanation, own, name) {
  const network = ifHeld(own);
  return [
    ...drawEquation(state.operation.equation),
    drawSymbols(explanation.symbols),
    explanation.note ? paragraph("soft", explanation.note) : null,
    drawMatrices(explanation),
    ...drawTerms(explanation),
    drawSteps(explanation.steps),
    paragraph("result", name, valueElement(explanation.result)),
    network === null ? null : paragraph("agrees", "the network’s own value: ", valueElement(network)),
    drawCancellation(explanation),
  ].filter((part) => part !== null);
}

// The equation as it stands in the source, and where that is.
const drawEquation = ({ file, line, text }) => [
  paragraph("equation", text),
  paragraph("soft origin", `${file}, line ${line}`),
];

// What the letters of the equation are for the selected unit.
function drawSymbols(symbols) {
  if (!symbols.length) return null;
  const texts = symbols.map(([letter, x]) => `${letter}\u00a0=\u00a0${typeof x === "number" ? shown(x) : x}`);
  return paragraph("symbols", `Here ${texts.join(", ")}.`);
}

function drawCancellation({ summands, result }) {
  const remark = cancellation(summands, result);
  return remark && paragraph("soft cancellation", remark);
}

function drawSteps(steps) {
  const rows = steps.map(({ formula, numbers, value }) => [formula, numbers, valueElement(value)]);
  return element("div", { class: "steps" }, table(["", "with the numbers", "value"], rows));
}

function drawSingle(terms) {
  if (!terms.length) return null;
  const [term] = terms;
  return paragraph("term", "reads ", term.from ? unitLink(term.name, term.from) : term.name, `: ${namedFactors(term)}`);
}

const namedFactors = (term) => term.factors.map((factor) => `${factor.name}\u00a0${shown(factor.value)}`).join(" · ");

// The terms: the largest ones in a table, and all of them on demand.
function drawTerms({ terms, isMaximum }) {
  if (terms.length < 2) return [drawSingle(terms)];
  const largest = isMaximum ? drawCompared(terms) : drawLargest(terms);
  return terms.length > TERMS ? [largest, drawEveryTerm(terms)] : [largest];
}

function drawLargest(terms) {
  const ordered = inOrder(terms);
  const named = ordered.slice(0, TERMS);
  const rest = ordered.slice(TERMS);
  const rows = named.map((term) => [
    term.from ? unitLink(term.name, term.from) : term.name,
    namedFactors(term),
    valueElement(term.value),
  ]);
  if (rest.length) rows.push([`the other ${rest.length}`, "summed", valueElement(sum(rest.map((term) => term.value)))]);
  return table(["largest terms by |value|", "", "value"], rows);
}

// Values that a maximum compares: the winner first.
function drawCompared(terms) {
  const ordered = fromLargest(terms);
  const rest = ordered.slice(TERMS);
  const rows = ordered.slice(0, TERMS).map((term) => [unitLink(term.name, term.from), valueElement(term.value)]);
  if (rest.length) rows.push([`the other ${rest.length}, at most`, valueElement(rest[0].value)]);
  return table(["values of the window, the largest first", "value"], rows);
}

// All terms in the order of the sum, drawn when they are asked for.
function drawEveryTerm(terms) {
  const fill = (event) => {
    if (!event.target.open || event.target.childElementCount > 1) return;
    const rows = terms.map((term) => [term.name, namedFactors(term), valueElement(term.value)]);
    event.target.append(table(["", "", "value"], rows));
  };
  return element("details", { class: "every", ontoggle: fill }, element("summary", {}, `All ${terms.length} terms`));
}

function drawMatrices({ matrices }) {
  if (!matrices.length) return null;
  return element("div", { class: "matrices" }, ...matrices.map(drawMatrix));
}

// A matrix with its numbers. One that is wider than a narrow screen scrolls sideways in a box of its own.
function drawMatrix({ title, values, winner }) {
  const present = values.flat().filter((x) => x !== null);
  const scale = Math.max(...present.map(Math.abs), 0);
  const isOutlined = (i, j) => winner !== undefined && winner[0] === i && winner[1] === j;
  const cells = values.flatMap((row, i) => row.map((x, j) => x === null
    ? element("span", { class: "padding", title: "padding" }, "0")
    : element("span", { class: isOutlined(i, j) ? "winner" : null, title: number(x),
      style: `background: ${valueColor(x, 2 * scale)}` }, number(x, 3))));
  const grid = element("div",
    { class: "matrix", style: `grid-template-columns: repeat(${values[0].length}, auto)` }, ...cells);
  const isWide = values[0].length > NARROW;
  if (values[0].length > WIDE) grid.classList.add("small");
  const box = { class: "scroll", ...(isWide ? { tabindex: 0, role: "group", "aria-label": title } : {}) };
  return element("figure", {}, element("div", box, grid), element("figcaption", {}, title));
}

// A button that selects a unit of an operation.
function unitLink(text, { operation, unit }) {
  if (!operations.has(operation)) return text;
  return element("button", { type: "button", class: "link", onclick: () => select(operation, unit) }, text);
}
