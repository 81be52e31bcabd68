// One step of the recipe for one element of a parameter, as rawcnn/optim/optimizers.py writes the rules.
//
// w is the weight, g its gradient with weight decay, clipped; η the rate, v the velocity, m the momentum, and for
// RMSProp s the mean square with its decay d. All slots are at their start. The gradient is that of this image at
// inference; a training step has the mean over a batch, with the batch's own statistics and dropout.
//
// Each function adds {formula, numbers, value} to the steps, which the page shows as a table.

function recipeStep(path, index, gradient) {
  const { recipe } = page;
  const before = tensor(path).at(...index);
  const steps = [
    { formula: "w before", numbers: "", value: before },
    { formula: "∂L/∂w", numbers: "the gradient above", value: gradient },
  ];
  const decayed = addDecay(steps, path, before, gradient);
  const g = clipped(steps, decayed);
  updateRules[recipe.optimizer](steps, before, g, recipe);
  return steps;
}

// Weight decay λ/2·Σw² adds λ·w to the gradient.
function addDecay(steps, path, before, gradient) {
  const { weight_decay: lambda, decay_all: all } = page.recipe;
  if (!all && !/\/(filters|weights)$/.test(path)) {
    steps.push({ formula: "λ·w", numbers: "only filters and weights decay", value: 0 });
    return gradient;
  }
  steps.push({ formula: "λ·w", numbers: `${shown(lambda)} · ${inner(before)}`, value: lambda * before });
  const total = gradient + lambda * before;
  steps.push({ formula: "g = ∂L/∂w + λ·w", numbers: `${shown(gradient)} + ${inner(lambda * before)}`, value: total });
  return total;
}

// All gradients are scaled by one factor if their global norm is above the limit.
function clipped(steps, gradient) {
  const { clip, norm } = page.recipe;
  if (clip === null) return gradient;
  const value = (gradient * clip) / Math.max(norm, clip);
  const numbers = `${shown(gradient)} · ${shown(clip)} / max(${shown(norm)}, ${shown(clip)})`;
  steps.push({ formula: "g, clipped", numbers, value });
  return value;
}

function addVelocity(steps, formula, numbers, velocity) {
  steps.push({ formula: "v before", numbers: "its start", value: page.recipe.slots.velocity });
  steps.push({ formula, numbers, value: velocity });
}

function addAfter(steps, formula, numbers, after) {
  steps.push({ formula: `w after = ${formula}`, numbers, value: after });
}

const RULE_NAMES = {
  momentum: "gradient descent with momentum",
  nesterov: "gradient descent with Nesterov momentum",
  momentum_outside: "gradient descent with momentum, the learning rate outside of the velocity",
  rmsprop: "RMSProp with momentum",
};

const updateRules = {
  momentum(steps, w, g, { momentum: m, rate, slots }) {
    const v = m * slots.velocity - rate * g;
    addVelocity(steps, "v = m·v − η·g", `${shown(m)} · ${inner(slots.velocity)} − ${inner(rate)} · ${inner(g)}`, v);
    addAfter(steps, "w + v", `${shown(w)} + ${inner(v)}`, w + v);
  },

  nesterov(steps, w, g, { momentum: m, rate, slots }) {
    const v = m * slots.velocity - rate * g;
    addVelocity(steps, "v = m·v − η·g", `${shown(m)} · ${inner(slots.velocity)} − ${inner(rate)} · ${inner(g)}`, v);
    addAfter(steps, "w + m·v − η·g", `${shown(w)} + ${inner(m)} · ${inner(v)} − ${inner(rate)} · ${inner(g)}`,
      w + m * v - rate * g);
  },

  momentum_outside(steps, w, g, { momentum: m, rate, slots }) {
    const v = m * slots.velocity + g;
    addVelocity(steps, "v = m·v + g", `${shown(m)} · ${inner(slots.velocity)} + ${inner(g)}`, v);
    addAfter(steps, "w − η·v", `${shown(w)} − ${inner(rate)} · ${inner(v)}`, w - rate * v);
  },

  rmsprop(steps, w, g, { momentum: m, decay: d, epsilon, rate, slots }) {
    const s = d * slots.mean_square + (1 - d) * g ** 2;
    steps.push({ formula: "s before", numbers: "its start", value: slots.mean_square });
    const squares = `${shown(d)} · ${inner(slots.mean_square)} + ${inner(1 - d)} · ${inner(g)}²`;
    steps.push({ formula: "s = d·s + (1 − d)·g²", numbers: squares, value: s });
    const v = m * slots.velocity + (rate * g) / Math.sqrt(s + epsilon);
    addVelocity(steps, "v = m·v + η·g/√(s + ε)",
      `${shown(m)} · ${inner(slots.velocity)} + ${inner(rate)} · ${inner(g)} / √(${inner(s)} + ${inner(epsilon)})`, v);
    addAfter(steps, "w − v", `${shown(w)} − ${inner(v)}`, w - v);
  },
};
