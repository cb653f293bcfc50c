#include <array>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "tools/flag_table.h"
#include "tools/flags.h"

namespace tunnel::tools {
namespace {

constexpr size_t kColumns = 100;
constexpr size_t kIndent = 6;

struct Example {
  std::string_view what;
  std::vector<std::string> args;
};

const std::vector<Example>& Examples() {
  static const std::vector<Example> examples = {
      {"A server of its own: makes its certificate and ECH keys, prints what clients need, answers DoH itself.",
       {"-l", "wss://0.0.0.0:443/tunnel", "-token", "SECRET", "-name", "tunnel.example.org", "-ech-public-name",
        "www.example.com", "-serve-dns"}},
      {"Its client: SOCKS and HTTP proxy on port 1080. The resolver is the server; the pin is in the server's log.",
       {"-l", "proxy://127.0.0.1:1080", "-f", "wss://tunnel.example.org:443/tunnel", "-token", "SECRET", "-dns",
        "https://203.0.113.5/dns-query", "-ech", "auto", "-pin",
        "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD"}},
      {"A server behind a CDN that ends TLS, and a client that comes through it (ECH of the CDN).",
       {"-l", "ws://127.0.0.1:8080/tunnel", "-token", "SECRET", "-cidr", "127.0.0.1"}},
      {"", {"-l", "proxy://127.0.0.1:1080", "-f", "wss://tunnel.example.org/tunnel", "-token", "SECRET"}},
      {"Two forwards through chosen addresses of the CDN, four channels to each.",
       {"-l", "tcp://127.0.0.1:2222/10.0.0.5:22,127.0.0.1:5432/db.internal:5432", "-f",
        "wss://tunnel.example.org/tunnel", "-token", "SECRET", "-ip", "104.16.1.1,104.16.2.2", "-n", "4"}},
      {"A DNS resolver for this host: queries over UDP and TCP go to 9.9.9.9 from the server.",
       {"-l", "udp://127.0.0.1:5353/9.9.9.9:53", "-l", "tcp://127.0.0.1:5353/9.9.9.9:53", "-f",
        "wss://tunnel.example.org/tunnel", "-token", "SECRET"}},
      {"SSH of this host, for whoever is at the server: port 2222 there leads here. The server has to permit it.",
       {"-l", "rtcp://127.0.0.1:2222/127.0.0.1:22", "-f", "wss://tunnel.example.org/tunnel", "-token", "SECRET"}},
      {"A server that reaches nothing but two places.",
       {"-l", "wss://[::]:443/tunnel", "-token", "SECRET", "-state", "/var/lib/ech-tunnel", "-deny-target", "*",
        "-allow-target", "*.example.org:443,10.0.0.0/8:22"}},
  };
  return examples;
}

// Appends `text` in lines of at most kColumns, each `indent` columns in; words longer than that stand alone.
void AppendWrapped(std::string_view text, size_t indent, std::string& out) {
  size_t column = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (column != 0 && column + 1 + word.size() > kColumns) {
      out += '\n';
      column = 0;
    }
    if (column == 0) {
      out.append(indent, ' ');
      column = indent;
    } else {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  out += '\n';
}

// As one types it into a shell, over several lines where it is long.
void AppendCommand(const std::vector<std::string>& args, std::string& out) {
  std::string line = "    ech-tunnel";
  for (size_t i = 0; i < args.size(); ++i) {
    // A flag stays with its value.
    const bool quote = args[i].find_first_of("*|&;[] ") != std::string::npos;
    std::string words = quote ? fmt::format("'{}'", args[i]) : args[i];
    if (args[i].starts_with('-') && i + 1 < args.size() && !args[i + 1].starts_with('-')) {
      const bool quote_value = args[i + 1].find_first_of("*|&;[] ") != std::string::npos;
      words += quote_value ? fmt::format(" '{}'", args[i + 1]) : fmt::format(" {}", args[i + 1]);
      ++i;
    }
    if (line.size() + 1 + words.size() + 2 > kColumns) {
      fmt::format_to(std::back_inserter(out), "{} \\\n", line);
      line = "       ";
    }
    line += ' ';
    line += words;
  }
  fmt::format_to(std::back_inserter(out), "{}\n", line);
}

void AppendFlags(Side side, std::string_view title, std::string& out) {
  fmt::format_to(std::back_inserter(out), "\n{}\n", title);
  for (const Flag& flag : FlagTable()) {
    if (flag.side != side) continue;
    fmt::format_to(std::back_inserter(out), "  -{}{}{}{}\n", flag.spec.name, flag.spec.boolean() ? "" : " ",
                   flag.spec.argument, flag.spec.repeatable && flag.set != nullptr ? "   (may be repeated)" : "");
    std::string help(flag.help);
    if (!flag.default_text.empty()) {
      help += flag.default_text == "required" ? " Required." : fmt::format(" Default: {}.", flag.default_text);
    }
    AppendWrapped(help, kIndent, out);
  }
}

}  // namespace

std::string HelpText() {
  std::string out =
      "ech-tunnel carries connections through WebSocket channels over TLS 1.3 with Encrypted ClientHello.\n"
      "\n"
      "Usage\n"
      "  ech-tunnel -l wss://ip:port/path [flags]                          a server\n"
      "  ech-tunnel -l proxy://ip:port -f wss://host:port/path [flags]     a client\n"
      "  ech-tunnel check -f wss://host:port/path [flags] [-json]          try a server step by step\n"
      "  ech-tunnel ech-keygen -public-name NAME -out DIR                  make an ECH key\n"
      "  ech-tunnel version                                                what this was built with\n"
      "\n"
      "Examples\n";
  for (const Example& example : Examples()) {
    if (!example.what.empty()) {
      out += '\n';
      AppendWrapped(example.what, 2, out);
    }
    AppendCommand(example.args, out);
  }
  AppendFlags(Side::kBoth, "Server and client", out);
  AppendFlags(Side::kClient, "Client", out);
  AppendFlags(Side::kServer, "Server", out);
  AppendFlags(Side::kProcess, "Process", out);
  out += "\nSyntax\n";
  AppendWrapped(
      "One dash or two; -x value or -x=value; a flag without a value is switched off by -x=false. Lists are separated "
      "by "
      "commas.",
      2, out);
  out += "\nEnvironment\n";
  AppendWrapped(
      fmt::format("Every flag may come as a variable: {} for -token, {} for -ech-config, and so on; true or false for "
                  "flags without a value, several values of -l with spaces between. The command line beats the "
                  "environment, which beats the file of -config, which beats the defaults. A variable that is empty "
                  "says nothing.",
                  VariableOf("token"), VariableOf("ech-config")),
      2, out);
  out += "\nConfiguration file\n";
  AppendWrapped(
      "TOML, a key for every flag without its dash: token = \"@/etc/ech-tunnel/token\", n = 4, fallback = true, l = "
      "[\"proxy://127.0.0.1:1080\", \"tcp://127.0.0.1:2222/host:22\"]. -check-config prints what is in effect in "
      "that form.",
      2, out);
  out += "\nSignals\n";
  AppendWrapped(
      "SIGTERM or SIGINT: accept nothing more, let what runs finish for up to 30 s, exit 0; a second one exits at "
      "once. "
      "SIGHUP: read certificates and ECH keys again without dropping a connection.",
      2, out);
  out += "\nExit status\n";
  AppendWrapped(
      "0 after a signal ended it; 2 for a bad flag, address, certificate, key or ECH config; 1 when the system "
      "refused, a "
      "port in use for instance. One line on standard error says which.",
      2, out);
  return out;
}

std::vector<std::vector<std::string>> HelpExamples() {
  std::vector<std::vector<std::string>> all;
  for (const Example& example : Examples()) all.push_back(example.args);
  return all;
}

}  // namespace tunnel::tools
