const REMEMBERED = 20;

/** The focus does not get lost with what has it: when that leaves the page (a dialog that is done, a link that clears the
 * filters), what had the focus before gets it back, and the screen's name where that is gone too. Whoever gives it to
 * something else at once comes first. Call once. */
export function keepFocus(): void {
  let had: HTMLElement[] = [];
  document.addEventListener("focusin", ({ target }) => {
    if (target instanceof HTMLElement) had = [...had.slice(-REMEMBERED), target];
  });
  const look = () => {
    if (document.activeElement !== document.body || had.at(-1)?.isConnected !== false) return;
    had = had.filter((element) => element.isConnected);
    const inside = had.filter((element) => element.matches("main *") && element.checkVisibility());
    const heading = document.querySelector<HTMLElement>("main h1");
    const safe = document.querySelector<HTMLElement>("dialog[open] [data-safe]");
    (safe ?? inside.at(-1) ?? heading)?.focus();
  };
  new MutationObserver(() => {
    // What is removed, and what is there instead, come before.
    if (had.at(-1)?.isConnected === false) setTimeout(look);
  }).observe(document.body, { childList: true, subtree: true });
}
