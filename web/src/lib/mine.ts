import { HolderChangesDocument } from "../generated/operations";
import { follow } from "./live.svelte";

/** Call it whenever the page is looked at again, until the function that is returned is called. */
export function whenSeen(again: () => void): () => void {
  const changed = () => {
    if (document.visibilityState === "visible") again();
  };
  document.addEventListener("visibilitychange", changed);
  return () => document.removeEventListener("visibilitychange", changed);
}

/** Call it whenever something of the viewer's own has changed, whoever has done it and wherever, or may have, until the
 * function that is returned is called. */
export function whenMineChanges(again: () => void): () => void {
  const unseen = whenSeen(again);
  const stop = follow(HolderChangesDocument, {}, again, again);
  return () => {
    unseen();
    stop();
  };
}
