// Sums whose terms cancel: how many digits a sum in float32 loses.
//
// Loaded after recipe_presentation.js. Uses
//   terms.js: sum
//   numbers.js: number, shown

const FLOAT32_DIGITS = 7;
const NOTABLE = 100; // how many times larger than the result its terms are; ten times, a lost digit, is common

// What the page says about numbers that add up to a result; null if they do not cancel, or if the result is no sum.
function cancellation(summands, result) {
  const size = sum((summands ?? []).map(Math.abs));
  const ratio = size / Math.abs(result);
  const lost = Math.min(Math.ceil(Math.log10(ratio)), FLOAT32_DIGITS);
  if (size === 0 || ratio < NOTABLE) return null;
  const compared = result === 0 ? "and the result is 0" : `${number(ratio, 2)} times the result`;
  const rest = lost < FLOAT32_DIGITS ? `may differ from digit ${FLOAT32_DIGITS - lost + 1} on` : "may differ in all digits";
  return `The terms cancel: their absolute values add up to ${shown(size)}, ${compared}. A sum in float32 loses about `
    + `${lost} of its ${FLOAT32_DIGITS} digits, so the network’s own value ${rest}.`;
}
