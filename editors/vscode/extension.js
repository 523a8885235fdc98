// Starts `flexc lsp` for .flex files. All that the editor shows comes from it, colours apart.
const { workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

exports.activate = function () {
    const command = workspace.getConfiguration("flexc").get("path") || "flexc";
    client = new LanguageClient("flexc", "flexc", { command, args: ["lsp"] }, { documentSelector: [{ language: "flex" }] });
    return client.start();
};

exports.deactivate = function () {
    return client && client.stop();
};
