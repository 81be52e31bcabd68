// Windows, groups and flattened maps: which units of its input an operation reads, and which outputs read a unit.
//
// An operation's settings have size, stride and dilation, each [vertical, horizontal], and the padding in pixels,
// pads = [[top, bottom], [left, right]].
//
// Loaded after terms.js. Uses
//   arrays.js: mapShape

// Tap (i, j) of an output's window: which pixel of the input it reads, and whether that is inside the map.
function tapAt(operation, output, i, j) {
  const { stride, pads, dilation } = operation.settings;
  const [height, width] = mapShape(operation.inputs[0]);
  const row = output.row * stride[0] + i * dilation[0] - pads[0][0];
  const column = output.column * stride[1] + j * dilation[1] - pads[1][0];
  return { i, j, row, column, inside: row >= 0 && row < height && column >= 0 && column < width };
}

// All taps of an output's window, row by row.
function taps(operation, output) {
  const { size } = operation.settings;
  const found = [];
  for (let i = 0; i < size[0]; i++) {
    for (let j = 0; j < size[1]; j++) found.push(tapAt(operation, output, i, j));
  }
  return found;
}

const tapsInside = (operation, output) => taps(operation, output).filter((tap) => tap.inside);

// The pixels that an average of an output's window divides by.
const averagedTaps = (operation, output) =>
  (operation.settings.count_padding ? taps(operation, output) : tapsInside(operation, output));

// Along one axis, the outputs whose windows read the input's index, in order: [{tap, output}], where
// output · stride + tap · dilation − padding = index.
function readersAlong(operation, axis, index) {
  const { size, stride, pads, dilation } = operation.settings;
  const found = [];
  for (let tap = size[axis] - 1; tap >= 0; tap--) {
    const start = index + pads[axis][0] - tap * dilation[axis];
    const output = start / stride[axis];
    if (Number.isInteger(output) && output >= 0 && output < operation.shape[axis]) found.push({ tap, output });
  }
  return found;
}

// The outputs whose windows read a pixel, row by row: tap (i, j) of output (row, column) is the pixel.
function readersOf(operation, pixel) {
  const columns = readersAlong(operation, 1, pixel.column);
  return readersAlong(operation, 0, pixel.row).flatMap((row) =>
    columns.map((column) => ({ i: row.tap, j: column.tap, row: row.output, column: column.output })));
}

// The input channels that an output channel of a convolution reads, those of its group: the first and how many.
function groupChannels(operation, channel) {
  const count = mapShape(operation.inputs[0])[2] / operation.settings.groups;
  const group = Math.floor((channel * operation.settings.groups) / operation.shape[2]);
  return { first: group * count, count };
}

// The output channels that read an input channel of a convolution, those of its group: the first and how many; and c, the
// number of the input channel in its group.
function readingChannels(operation, channel) {
  const { groups } = operation.settings;
  const size = mapShape(operation.inputs[0])[2] / groups;
  const count = operation.shape[2] / groups;
  return { first: Math.floor(channel / size) * count, count, c: channel % size };
}

// A dense layer reads a map row by row, as one vector: the index of a unit in this vector, and the unit at an index.
function flatIndex(input, { row, column, channel }) {
  const [, width, channels] = mapShape(input);
  return (row * width + column) * channels + channel;
}

function unitOfFlat(input, index) {
  const [, width, channels] = mapShape(input);
  const pixel = Math.floor(index / channels);
  return { row: Math.floor(pixel / width), column: pixel % width, channel: index % channels };
}
