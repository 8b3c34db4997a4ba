// What the bundler takes and TypeScript does not know.
declare module "*.css";
declare module "wasm_exec";
declare module "*/engine/gpu/browser/glue.js" {
  export function install(go: object): void;
}
