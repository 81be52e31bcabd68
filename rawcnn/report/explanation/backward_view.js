// Drawing and clicks of the backward arithmetic: the input pixel or the parameter that is selected, and its gradient.

function drawBackward() {
  return [];
}
