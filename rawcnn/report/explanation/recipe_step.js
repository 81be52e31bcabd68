// One step of the recipe for one element of a parameter, as rawcnn/optim/optimizers.py writes the rules.
//
// w is the weight, g its gradient with weight decay, clipped; η the rate, v the velocity, m the momentum, and for
// RMSProp s the mean square with its decay d. Velocity and mean square are at their start. The gradient is that of this
// image at inference; a training step has the mean over a batch, with the batch's own statistics and dropout.
//
// Loaded after backward.js. Uses
//   arrays.js: page, tensor

// The values of a step, {w, gradient, isDecayed, decay, decayed, g, v, after} and for RMSProp s.
function recipeStep(path, index, gradient) {
  const { recipe } = page;
  const w = tensor(path).at(...index);
  const isDecayed = hasDecay(path);
  const decay = isDecayed ? recipe.weight_decay * w : 0; // λ/2·Σw² adds λ·w to the gradient
  const decayed = gradient + decay;
  const g = clipped(decayed);
  return { w, gradient, isDecayed, decay, decayed, g, ...updateRules[recipe.optimizer](w, g, recipe) };
}

// Only filters and weights decay, unless the recipe says otherwise; rawcnn/nn/trace.py has the same rule.
const hasDecay = (path) => page.recipe.decay_all || /\/(filters|weights)$/.test(path);

// All gradients are scaled by one factor if their global norm is above the limit.
function clipped(gradient) {
  const { clip, norm } = page.recipe;
  return clip === null ? gradient : (gradient * clip) / Math.max(norm, clip);
}

const updateRules = {
  momentum(w, g, { momentum: m, rate, slots }) {
    const v = m * slots.velocity - rate * g;
    return { v, after: w + v };
  },

  nesterov(w, g, { momentum: m, rate, slots }) {
    const v = m * slots.velocity - rate * g;
    return { v, after: w + m * v - rate * g };
  },

  momentum_outside(w, g, { momentum: m, rate, slots }) {
    const v = m * slots.velocity + g;
    return { v, after: w - rate * v };
  },

  rmsprop(w, g, { momentum: m, decay: d, epsilon, rate, slots }) {
    const s = d * slots.mean_square + (1 - d) * g ** 2;
    const v = m * slots.velocity + (rate * g) / Math.sqrt(s + epsilon);
    return { s, v, after: w - v };
  },
};
