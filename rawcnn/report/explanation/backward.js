// Backward arithmetic: backward[kind](operation, selection) computes one gradient from the arrays of the page.
//
// A selection is one of
//   {what: "input", source, row, column, channel}    a unit of the operation's input number `source`
//   {what: "parameter", leaf, index}                 an element of a parameter, such as index [i, j, c, o] of "filters"
// The result is an explanation, as forward.js describes it, of ∂L/∂(that value). It may also have `map`: the terms of a
// sum over positions, as {title, values: [[number]]}.

const backward = {};
