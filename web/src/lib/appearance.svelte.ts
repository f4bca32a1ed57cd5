import type { IssuerCardQuery } from "../generated/operations";

type Shown = Pick<NonNullable<IssuerCardQuery["issuer"]>, "name" | "appearance">;

/** Whose application this is: an issuer's, with its colour and its mark; Escarcelle's own until one is known. */
class Appearance {
  issuer = $state.raw<Shown | null>(null);

  /** From now on it is this issuer's. */
  wear(issuer: Shown | null): void {
    this.issuer = issuer;
    const { style } = document.documentElement;
    if (issuer === null) style.removeProperty("--accent");
    else style.setProperty("--accent", `light-dark(${issuer.appearance.accentLight}, ${issuer.appearance.accentDark})`);
    const bar = document.querySelector<HTMLMetaElement>('meta[name="theme-color"]');
    if (bar && issuer) bar.content = issuer.appearance.accentLight;
  }
}

export const appearance = new Appearance();
