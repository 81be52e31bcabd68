// Groups of controls with one Tab stop (a roving tabindex): arrow keys, Home and End move within the group. So the map is
// a few Tab presses from the top of the page, however many operations the source has.
//
// Loaded after backward_view.js. Uses
//   page.html: #name
//   elements.js: byId
//   choices.js: clamp

const MOVES = {
  ArrowRight: (at) => at + 1,
  ArrowDown: (at) => at + 1,
  ArrowLeft: (at) => at - 1,
  ArrowUp: (at) => at - 1,
  Home: () => 0,
  End: (at, count) => count - 1,
};

const controlsOf = (group) => [...group.querySelectorAll("a[href], button")].filter((one) => !one.hidden);

// Make one control of a group its Tab stop: the one with the focus, otherwise the one that is pressed, otherwise the first.
function placeStop(group) {
  const controls = controlsOf(group);
  const isPressed = (one) => one.getAttribute("aria-pressed") === "true";
  const stop = controls.find((one) => one === document.activeElement) ?? controls.find(isPressed) ?? controls[0];
  for (const one of controls) one.tabIndex = one === stop ? 0 : -1;
}

// Give a group one Tab stop. If its controls change, `placeStop` has to follow.
function rove(group) {
  group.addEventListener("focusin", () => placeStop(group));
  group.addEventListener("keydown", (event) => {
    const controls = controlsOf(group);
    const at = controls.indexOf(document.activeElement);
    if (at < 0 || !(event.key in MOVES)) return;
    event.preventDefault();
    controls[clamp(MOVES[event.key](at, controls.length), controls.length)].focus();
  });
  placeStop(group);
  return group;
}

// The skip link leads to the map of the operation, or to its name if it has no map.
function skipToMap(event) {
  event.preventDefault();
  const target = byId("output-map") ?? byId("name");
  target.focus();
  target.scrollIntoView({ block: "center" });
}
