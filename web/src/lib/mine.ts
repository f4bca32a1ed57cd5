import { HolderChangesDocument } from "../generated/operations";
import { follow } from "./live.svelte";

/** Call it whenever something of the viewer's own has changed, whoever has done it and wherever, and whenever the page is
 * looked at again, until the function that is returned is called. */
export function whenMineChanges(again: () => void): () => void {
  const seen = () => {
    if (document.visibilityState === "visible") again();
  };
  document.addEventListener("visibilitychange", seen);
  const stop = follow(HolderChangesDocument, {}, again, again);
  return () => {
    document.removeEventListener("visibilitychange", seen);
    stop();
  };
}
