/** The version of this program, as manifests, metrics and --version tell it; a test holds it equal to package.json. */
export const version = "0.1.0";
