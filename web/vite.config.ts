import { createHash } from "node:crypto";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { runInNewContext } from "node:vm";
import { brotliCompress, constants, gzip } from "node:zlib";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin, type UserConfig } from "vite";
import { icons } from "./scripts/icons.ts";

const WORKER = "service-worker.js";

/** The client, into dist/client; with `--mode graphiql`, GraphiQL, into dist/graphiql: it is large, and seldom changes. */
export default defineConfig(({ mode }) => {
  const common: UserConfig["build"] = {
    target: "es2023",
    emptyOutDir: true,
    modulePreload: { polyfill: false },
    // The policy of the page allows no data: but for pictures, and what has a name of its own is kept for ever.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 5_000,
    reportCompressedSize: false,
  };
  const checks = { moduleLevelDirective: false, pluginTimings: false };
  if (mode === "graphiql") {
    return {
      root: "graphiql",
      base: "/graphiql/",
      plugins: [compressed()],
      build: { ...common, outDir: "../dist/graphiql", rolldownOptions: { checks } },
    };
  }
  return {
    plugins: [svelte(), drawn(), reader(), shell(), compressed()],
    build: {
      ...common,
      outDir: "dist/client",
      // Which file needs which, for who measures; nobody is served a name that begins with a dot.
      manifest: ".parts.json",
      rolldownOptions: {
        checks,
        input: { index: "index.html", "service-worker": "src/service-worker.ts" },
        output: {
          entryFileNames: ({ name }) => (name === "service-worker" ? WORKER : "assets/[name]-[hash].js"),
        },
      },
    },
    server: {
      // `npm run dev` shows what is edited at once; the API is that of bin/dev, which must run.
      proxy: Object.fromEntries(
        [
          "^/(?:files|graphiql|graphql|mails|marks|p|password|statements|templates|transfers)(?:[/?]|$)",
          "^/(?:reimbursements|vouchers)/[^/]+/",
        ].map((addresses) => [addresses, { target: "http://127.0.0.1:8000", ws: true }]),
      ),
    },
  };
});

/** qr-scanner makes its worker of a text, which the page's policy does not allow: here the text is a file. */
function reader(): Plugin {
  const file = /qr-scanner-worker\.min\.js$/;
  return {
    name: "reader",
    apply: "build",
    async load(id) {
      if (!file.test(id)) return null;
      const code = await readFile(id, "utf-8");
      const source = String(runInNewContext(code.slice(code.indexOf("`"), code.lastIndexOf("`") + 1)));
      const worker = this.emitFile({ type: "asset", name: "qr-reader.js", source });
      return `export const createWorker = () => new Worker(import.meta.ROLLUP_FILE_URL_${worker});`;
    },
  };
}

/** The icons, beside the page. */
function drawn(): Plugin {
  return {
    name: "icons",
    apply: "build",
    generateBundle() {
      for (const [fileName, source] of Object.entries(icons())) this.emitFile({ type: "asset", fileName, source });
    },
  };
}

/** Tells the service worker what the shell is: the page, and all that its screens load. GraphiQL is no part of it. Any
 * change of it makes another worker. */
function shell(): Plugin {
  return {
    name: "shell",
    apply: "build",
    enforce: "post",
    generateBundle(_options, bundle) {
      const chunks = Object.values(bundle).filter((one) => one.type === "chunk");
      const page = chunks.find((chunk) => chunk.isEntry && chunk.name === "index");
      const [worker, html] = [bundle[WORKER], bundle["index.html"]];
      if (page === undefined || worker?.type !== "chunk" || html?.type !== "asset") return this.error("no shell");
      const files = new Set(
        [...String(html.source).matchAll(/(?:src|href)="\/([^"]+)"/g)].map(([, path = ""]) => path),
      );
      const reached = new Set([page]);
      for (const chunk of reached) {
        const { importedCss = [], importedAssets = [] } = chunk.viteMetadata ?? {};
        for (const file of [chunk.fileName, ...importedCss, ...importedAssets]) files.add(file);
        for (const name of [...chunk.imports, ...chunk.dynamicImports]) {
          const next = bundle[name];
          if (next?.type === "chunk") reached.add(next);
        }
      }
      const version = createHash("sha256")
        .update(String(html.source))
        .update([...files].join())
        .digest("hex");
      worker.code = worker.code
        .replaceAll("__SHELL__", JSON.stringify([...files].map((file) => `/${file}`)))
        .replaceAll("__VERSION__", JSON.stringify(version.slice(0, 12)));
    },
  };
}

/** Beside each text file its brotli and gzip form, where that is smaller. */
function compressed(): Plugin {
  let folder = "";
  return {
    name: "compressed",
    apply: "build",
    configResolved(config) {
      folder = resolve(config.root, config.build.outDir);
    },
    async closeBundle() {
      const names = await readdir(folder, { recursive: true });
      await Promise.all(names.filter((name) => /\.(?:css|html|js|svg|webmanifest)$/.test(name)).map(compress));
    },
  };

  async function compress(name: string) {
    const path = join(folder, name);
    const plain = await readFile(path);
    // The highest quality takes seconds for what is large, and saves little.
    const params = { [constants.BROTLI_PARAM_QUALITY]: plain.length > 500_000 ? 7 : 11 };
    const forms = {
      br: await promisify(brotliCompress)(plain, { params }),
      gz: await promisify(gzip)(plain, { level: 9 }),
    };
    for (const [ending, made] of Object.entries(forms)) {
      if (made.length < plain.length) await writeFile(`${path}.${ending}`, made);
    }
  }
}
