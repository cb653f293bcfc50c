#include <algorithm>
#include <iterator>

#include "proto/url.h"
#include "tools/config_file.h"
#include "tools/flag_table.h"
#include "tools/flags.h"

namespace tunnel::tools {
namespace {

// A basic string of TOML 1.0.
std::string TomlString(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      fmt::format_to(std::back_inserter(quoted), "\\u{:04x}", static_cast<unsigned>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

// What is printed in a value's place: itself, or as much of it as is no secret. It has the form of a value, so that the
// output can be read back.
std::string Shown(const GivenFlag& flag) {
  if (!HoldsSecret(flag)) return flag.value;
  if (flag.spec->secrecy == Secrecy::kSecret) return std::string(kSecretMask);
  // This value has been parsed, so an @ behind its authority is none of credentials and stays (WithoutCredentials(),
  // for values that may not parse, takes it for one).
  const size_t start = flag.value.find("://") + 3;
  const size_t end = std::min(flag.value.find_first_of("/?", start), flag.value.size());
  const size_t at = flag.value.find('@', start);
  if (at >= end) return flag.value;
  return fmt::format("{}{}:{}{}", flag.value.substr(0, start), kSecretMask, kSecretMask, flag.value.substr(at));
}

std::string TomlValue(const GivenFlag& flag) {
  if (flag.spec->boolean()) return flag.value;
  const bool digits =
      !flag.value.empty() && std::ranges::all_of(flag.value, [](char c) { return c >= '0' && c <= '9'; });
  return flag.spec->argument == "NUMBER" && digits ? flag.value : TomlString(Shown(flag));
}

void AppendSetting(const Flag& flag, const std::vector<GivenFlag>& settings, std::string& out) {
  std::vector<const GivenFlag*> values;
  for (const GivenFlag& setting : settings) {
    if (setting.spec == &flag.spec) values.push_back(&setting);
  }
  const auto to = std::back_inserter(out);
  if (values.empty()) {
    fmt::format_to(to, "# {}: {} (default)\n", flag.spec.name, flag.default_text);
  } else if (values.size() == 1) {
    fmt::format_to(to, "{} = {}  # {}\n", flag.spec.name, TomlValue(*values[0]), values[0]->origin);
  } else {
    fmt::format_to(to, "{} = [\n", flag.spec.name);
    for (const GivenFlag* value : values) fmt::format_to(to, "  {},  # {}\n", TomlValue(*value), value->origin);
    fmt::format_to(to, "]\n");
  }
}

}  // namespace

std::string EffectiveToml(const CommandLine& command, std::span<const std::string> notes) {
  std::string out = fmt::format("# {}\n", DescribeConfig(command.config));
  for (const std::string& note : notes) fmt::format_to(std::back_inserter(out), "# {}\n", OneLine(note));
  for (const std::string& warning : command.warnings) {
    fmt::format_to(std::back_inserter(out), "# warning: {}\n", OneLine(warning));
  }
  const Side other = command.config.is_server() ? Side::kClient : Side::kServer;
  for (const Flag& flag : FlagTable()) {
    if (!InFile(flag)) continue;
    const bool given = std::ranges::any_of(command.settings, [&](const GivenFlag& g) { return g.spec == &flag.spec; });
    if (given || flag.side != other) AppendSetting(flag, command.settings, out);
  }
  return out;
}

}  // namespace tunnel::tools
