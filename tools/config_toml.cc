#include <algorithm>
#include <utility>

#include "tools/config_syntax.h"

// The header alone, without exceptions: the package's shared library is built with them, and one more library to have
// at run time is no gain for a file that is read once.
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

namespace tunnel::tools {
namespace {

// The parser's words without what it quotes of the file.
std::string Reason(std::string_view description) {
  if (description.find("redefine") != std::string_view::npos) return "a key that is there already";
  std::string_view reason = description.substr(0, description.find(", saw "));
  // Quotes around one character hold what the parser expected, those around more what it found.
  for (size_t quote = reason.find('\''); quote != std::string_view::npos; quote = reason.find('\'', quote + 3)) {
    if (quote + 2 < reason.size() && reason[quote + 2] == '\'') continue;
    reason = reason.substr(0, quote);
    break;
  }
  while (reason.ends_with(' ') || reason.ends_with(':')) reason.remove_suffix(1);
  return std::string(reason);
}

ConfigItem ItemOf(const toml::node& node) {
  ConfigItem item{.kind = ConfigItem::Kind::kOther, .text = {}, .line = node.source().begin.line};
  if (const toml::value<std::string>* text = node.as_string()) {
    item.kind = ConfigItem::Kind::kText;
    item.text = text->get();
  } else if (const toml::value<int64_t>* number = node.as_integer()) {
    item.kind = ConfigItem::Kind::kNumber;
    item.text = fmt::format("{}", number->get());
  } else if (const toml::value<bool>* boolean = node.as_boolean()) {
    item.kind = ConfigItem::Kind::kBoolean;
    item.text = boolean->get() ? "true" : "false";
  } else {
    item.text = node.is_table()            ? "a table"
                : node.is_array()          ? "an array"
                : node.is_floating_point() ? "a fraction"
                                           : "a date or time";
  }
  return item;
}

}  // namespace

absl::StatusOr<std::vector<ConfigEntry>> ReadToml(std::string_view text) {
  const toml::parse_result result = toml::parse(text);
  if (!result) {
    const toml::parse_error& error = result.error();
    return InvalidArgument("{}: expected TOML: {}", error.source().begin.line, Reason(error.description()));
  }
  // The parser keeps keys in the order of the alphabet.
  std::vector<std::pair<toml::source_position, ConfigEntry>> entries;
  for (const auto& [key, node] : result.table()) {
    const toml::source_position at = key.source().begin;
    ConfigEntry entry{.key = std::string(key.str()), .line = at.line, .list = false, .items = {}};
    const toml::array* const array = node.as_array();
    if (array != nullptr && !array->is_array_of_tables()) {
      entry.list = true;
      for (const toml::node& item : *array) entry.items.push_back(ItemOf(item));
    } else {
      entry.items.push_back(ItemOf(node));
      if (entry.items[0].kind == ConfigItem::Kind::kOther)
        entry.items[0].text = array ? "a table" : entry.items[0].text;
    }
    entries.emplace_back(at, std::move(entry));
  }
  std::ranges::sort(entries, [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<ConfigEntry> in_order;
  in_order.reserve(entries.size());
  for (auto& [at, entry] : entries) in_order.push_back(std::move(entry));
  return in_order;
}

}  // namespace tunnel::tools
