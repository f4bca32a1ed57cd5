/** Call it whenever the page is looked at again, until the function that is returned is called. */
export function whenSeen(again: () => void): () => void {
  const changed = () => {
    if (document.visibilityState === "visible") again();
  };
  document.addEventListener("visibilitychange", changed);
  return () => document.removeEventListener("visibilitychange", changed);
}
