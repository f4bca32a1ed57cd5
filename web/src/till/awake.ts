/** Keep the screen on until the function that is returned is called, where the browser can. */
export function stayAwake(): () => void {
  let lock: WakeLockSentinel | undefined;
  let over = false;
  const take = () => {
    if (over || document.visibilityState !== "visible" || !("wakeLock" in navigator)) return;
    navigator.wakeLock.request("screen").then(
      (given) => {
        if (over) void given.release();
        else lock = given;
      },
      // Refused, by a nearly empty battery for instance: the screen then turns off as it always does.
      () => undefined,
    );
  };
  take();
  // A hidden page loses it.
  document.addEventListener("visibilitychange", take);
  return () => {
    over = true;
    document.removeEventListener("visibilitychange", take);
    void lock?.release();
  };
}
