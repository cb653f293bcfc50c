#include "tools/config_file.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "proto/url.h"
#include "tools/config_syntax.h"

namespace tunnel::tools {
namespace {

// The keys of the forks that are not the flags' names.
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kForkKeys = {
    {{"listen", "l"}, {"forward", "f"}, {"connections", "n"}}};

std::string_view FlagOfKey(std::string_view key, ConfigFormat format) {
  if (format == ConfigFormat::kJson) {
    for (const auto& [fork, flag] : kForkKeys) {
      if (key == fork) return flag;
    }
  }
  return key;
}

std::string ShownKey(std::string_view key) {
  constexpr size_t kKeyLimitBytes = 64;
  return OneLine(key.substr(0, kKeyLimitBytes));
}

bool TakesList(const FlagSpec& spec) { return spec.repeatable || spec.argument.ends_with(",..."); }

std::string_view Expected(const FlagSpec& spec) {
  if (spec.boolean()) return "true or false, without quotes";
  if (spec.argument == "NUMBER") return "a number";
  return TakesList(spec) ? "a string in quotes, or an array of them" : "a string in quotes";
}

absl::Status UnknownKey(std::string_view where, std::string_view key, ConfigFormat format,
                        std::span<const FlagSpec* const> specs) {
  std::vector<std::string_view> names;
  for (const FlagSpec* spec : specs) names.push_back(spec->name);
  if (format == ConfigFormat::kJson) {
    for (const auto& [fork, flag] : kForkKeys) names.push_back(fork);
  }
  const std::string hint = DidYouMean(key, names, "");
  return InvalidArgument("{}: unknown key {}{}", where, ShownKey(key),
                         hint.empty() ? "; keys are the names of the flags, and -h lists them" : hint);
}

// Whether a JSON file leaves the key as it was: null, and Go's zero values.
bool SaysNothing(const ConfigEntry& entry) {
  if (entry.list || entry.items.size() != 1) return false;
  const ConfigItem& item = entry.items[0];
  if (item.kind == ConfigItem::Kind::kOther) return item.text == "null";
  return item.kind == ConfigItem::Kind::kText ? item.text.empty() : entry.key == "connections" && item.text == "0";
}

absl::Status CheckItem(const ConfigItem& item, std::string_view where, const FlagSpec& spec) {
  using Kind = ConfigItem::Kind;
  if (item.kind == Kind::kOther) {
    return InvalidArgument("{} is {}: expected {}", where, item.text, Expected(spec));
  }
  const bool text_or_number =
      item.kind == Kind::kText || (item.kind == Kind::kNumber && spec.secrecy == Secrecy::kPublic);
  if (spec.boolean() ? item.kind != Kind::kBoolean : !text_or_number) {
    // Without quotes, as it stands in the file; only a text may be long or hold anything.
    const std::string shown = spec.secrecy == Secrecy::kSecret ? "(not shown)"
                              : item.kind == Kind::kText       ? Quoted(proto::WithoutCredentials(item.text))
                                                               : item.text;
    return InvalidArgument("{} {}: expected {}", where, shown, Expected(spec));
  }
  if (item.text.find('\0') != std::string::npos) {
    return InvalidArgument("{}: expected {} without a zero byte in it", where, Expected(spec));
  }
  return absl::OkStatus();
}

}  // namespace

ConfigFormat FormatOf(std::string_view text, std::string_view path) {
  if (path.ends_with(".json")) return ConfigFormat::kJson;
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && text[first] == '{' ? ConfigFormat::kJson : ConfigFormat::kToml;
}

absl::StatusOr<std::vector<GivenFlag>> ParseConfigFile(std::string_view text, std::string_view path,
                                                       std::span<const FlagSpec* const> specs) {
  const std::string file = OneLine(path);
  if (text.size() > kConfigFileLimitBytes) {
    return InvalidArgument("{}: {} bytes: expected a configuration file of at most {}", file, text.size(),
                           kConfigFileLimitBytes);
  }
  const ConfigFormat format = FormatOf(text, path);
  const absl::StatusOr<std::vector<ConfigEntry>> entries =
      format == ConfigFormat::kJson ? ReadJson(text) : ReadToml(text);
  if (!entries.ok()) return InvalidArgument("{}:{}", file, MessageOf(entries.status()));

  std::vector<GivenFlag> given;
  std::vector<const FlagSpec*> seen;
  for (const ConfigEntry& entry : *entries) {
    const std::string_view flag = FlagOfKey(entry.key, format);
    const std::string where = fmt::format("{}:{}", file, entry.line);
    const auto found = std::ranges::find_if(specs, [&](const FlagSpec* spec) { return spec->name == flag; });
    if (found == specs.end()) return UnknownKey(where, entry.key, format, specs);
    const FlagSpec& spec = **found;
    if (std::ranges::find(seen, &spec) != seen.end()) {
      return InvalidArgument("{}: {} says again what -{} stands for", where, ShownKey(entry.key), spec.name);
    }
    seen.push_back(&spec);
    if (format == ConfigFormat::kJson && SaysNothing(entry)) continue;
    if (entry.list && !TakesList(spec)) {
      return InvalidArgument("{}: {} is an array: expected {}", where, ShownKey(entry.key), Expected(spec));
    }
    const size_t first = given.size();
    for (const ConfigItem& item : entry.items) {
      const std::string source = fmt::format("{}:{}: {}", file, item.line, ShownKey(entry.key));
      TUNNEL_RETURN_IF_ERROR(CheckItem(item, source, spec));
      if (!spec.repeatable && given.size() > first) {
        // A flag that is a list of its own has one value.
        fmt::format_to(std::back_inserter(given.back().value), ",{}", item.text);
        continue;
      }
      given.push_back(
          {.spec = &spec, .value = item.text, .source = source, .origin = fmt::format("{}:{}", file, item.line)});
    }
  }
  return given;
}

bool HoldsSecret(const GivenFlag& flag) {
  if (flag.spec->secrecy == Secrecy::kSecret) return !flag.value.starts_with("@/");
  return flag.value.find("://") != std::string::npos && proto::WithoutCredentials(flag.value) != flag.value;
}

}  // namespace tunnel::tools
