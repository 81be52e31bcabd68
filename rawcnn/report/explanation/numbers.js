// How numbers, sums and classes are written.
//
// Loaded after recipe_step.js. Uses
//   arrays.js: page
//   terms.js: inOrder

// A number with some significant digits, and a true minus sign.
function number(value, digits = 7) {
  if (!Number.isFinite(value)) return String(value);
  const rounded = Number(value.toPrecision(digits));
  const isExtreme = Math.abs(value) >= 1e7 || (value !== 0 && Math.abs(value) < 1e-4);
  return (isExtreme ? rounded.toExponential() : String(rounded)).replace(/-/g, "−");
}

const shown = (value) => number(value, 5);

// A number within a product or a sum: a negative one in brackets.
const inner = (x) => (x < 0 ? `(${shown(x)})` : shown(x));

// A step of the arithmetic: a formula, the same with numbers, and its value.
const step = (formula, numbers, value) => ({ formula, numbers, value });

// The largest terms of a sum with their numbers: "2·0.5 + (−3)·0.1 + … (9 products, the largest first)".
function written(terms, what) {
  const first = inOrder(terms).slice(0, 3).map((term) => term.factors.map((factor) => inner(factor.value)).join("·"));
  const isPart = terms.length > first.length;
  return `${first.join(" + ")}${isPart ? " + …" : ""} (${terms.length} ${what}${isPart ? ", the largest first" : ""})`;
}

// A vertical and a horizontal number; one of them where both are equal.
const sides = ([vertical, horizontal]) => (vertical === horizontal ? String(vertical) : `${vertical} and ${horizontal}`);

const joined = (...sentences) => sentences.filter((sentence) => sentence).join(" ");

const className = (k) => page.image.names[k] ?? `class ${k}`;
