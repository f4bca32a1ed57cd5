/** Keep the screen on while something is shown to somebody else, until the function that is returned is called. Where the
 * browser does not know how, the screen goes off as it always does. */
export function awake(): () => void {
  let lock: WakeLockSentinel | undefined;
  let over = false;
  const ask = async () => {
    if (over || document.visibilityState !== "visible" || !("wakeLock" in navigator)) return;
    const given = await navigator.wakeLock.request("screen").catch(() => undefined);
    if (over) void given?.release();
    else lock = given;
  };
  void ask();
  // It ends whenever the page is hidden.
  document.addEventListener("visibilitychange", ask);
  return () => {
    over = true;
    document.removeEventListener("visibilitychange", ask);
    void lock?.release();
  };
}
