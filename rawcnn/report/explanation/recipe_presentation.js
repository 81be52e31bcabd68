// How a step of the recipe is shown: stepsOfRecipe writes what recipeStep computes as [{formula, numbers, value}].
//
// Loaded after backward_presentation.js. Uses
//   arrays.js: page
//   numbers.js: shown, inner, step

const RULE_NAMES = {
  momentum: "gradient descent with momentum",
  nesterov: "gradient descent with Nesterov momentum",
  momentum_outside: "gradient descent with momentum, the learning rate outside of the velocity",
  rmsprop: "RMSProp with momentum",
};

// The steps from a weight's gradient to the weight after one step of the recipe.
function stepsOfRecipe({ w, gradient, isDecayed, decay, decayed, g, ...updated }) {
  const { weight_decay: lambda, clip, norm, optimizer } = page.recipe;
  return [
    step("w before", "", w),
    step("∂L/∂w", "the gradient above", gradient),
    ...(isDecayed ? [
      step("λ·w", `${shown(lambda)} · ${inner(w)}`, decay),
      step("g = ∂L/∂w + λ·w", `${shown(gradient)} + ${inner(decay)}`, decayed),
    ] : [step("λ·w", "only filters and weights decay", 0)]),
    ...(clip === null ? []
      : [step("g, clipped", `${shown(decayed)} · ${shown(clip)} / max(${shown(norm)}, ${shown(clip)})`, g)]),
    ...updateSteps[optimizer]({ w, g, ...updated }, page.recipe),
  ];
}

const velocitySteps = (formula, numbers, v) =>
  [step("v before", "the start value", page.recipe.slots.velocity), step(`v = ${formula}`, numbers, v)];

// m·v − η·g
const velocityNumbers = (g, { momentum: m, rate, slots }) =>
  `${shown(m)} · ${inner(slots.velocity)} − ${inner(rate)} · ${inner(g)}`;

const updateSteps = {
  momentum: ({ w, g, v, after }, recipe) => [
    ...velocitySteps("m·v − η·g", velocityNumbers(g, recipe), v),
    step("w after = w + v", `${shown(w)} + ${inner(v)}`, after),
  ],

  nesterov: ({ w, g, v, after }, recipe) => [
    ...velocitySteps("m·v − η·g", velocityNumbers(g, recipe), v),
    step("w after = w + m·v − η·g", `${shown(w)} + ${velocityNumbers(g, { ...recipe, slots: { velocity: v } })}`, after),
  ],

  momentum_outside: ({ w, g, v, after }, { momentum: m, rate, slots }) => [
    ...velocitySteps("m·v + g", `${shown(m)} · ${inner(slots.velocity)} + ${inner(g)}`, v),
    step("w after = w − η·v", `${shown(w)} − ${inner(rate)} · ${inner(v)}`, after),
  ],

  rmsprop: ({ w, g, s, v, after }, { momentum: m, decay: d, epsilon, rate, slots }) => [
    step("s before", "the start value", slots.mean_square),
    step("s = d·s + (1 − d)·g²", `${shown(d)} · ${inner(slots.mean_square)} + ${inner(1 - d)} · ${inner(g)}²`, s),
    ...velocitySteps("m·v + η·g/√(s + ε)",
      `${shown(m)} · ${inner(slots.velocity)} + ${inner(rate)} · ${inner(g)} / √(${inner(s)} + ${inner(epsilon)})`, v),
    step("w after = w − v", `${shown(w)} − ${inner(v)}`, after),
  ],
};
