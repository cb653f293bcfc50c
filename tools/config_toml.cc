#include <algorithm>
#include <utility>

#include "tools/config_syntax.h"

namespace {

// Thrown where the parser finds an assertion of its own broken. The one of Debian 12 asserts what it goes on to check
// ("[{" at the start of a line does it), and a file with a mistake in it must not end in an abort.
struct BrokenAssertion {};

// A function of its own, for g++ warns of a throw in the parser's few functions that let none pass.
[[noreturn]] void ThrowBrokenAssertion() { throw BrokenAssertion(); }

}  // namespace

// The header alone: one more library to have at run time is no gain for a file that is read once.
#undef NDEBUG
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 1
#define TOML_ENABLE_FORMATTERS 0
#define TOML_ASSERT(condition)                \
  do {                                        \
    if (!(condition)) ThrowBrokenAssertion(); \
  } while (false)
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

// The line of the first table's header, which is where the parser gave up without saying so.
unsigned FirstHeaderLine(std::string_view text) {
  unsigned number = 0;
  for (std::string_view line; !text.empty(); text.remove_prefix(std::min(line.size() + 1, text.size()))) {
    line = text.substr(0, text.find('\n'));
    ++number;
    const size_t first = line.find_first_not_of(" \t");
    if (first != std::string_view::npos && line[first] == '[') return number;
  }
  return 1;
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
  toml::table table;
  try {
    table = toml::parse(text);
  } catch (const toml::parse_error& error) {
    return InvalidArgument("{}: expected TOML: {}", error.source().begin.line, Reason(error.description()));
  } catch (const BrokenAssertion&) {
    return InvalidArgument("{}: expected TOML: no key can begin like this", FirstHeaderLine(text));
  }
  // The parser keeps keys in the order of the alphabet.
  std::vector<std::pair<toml::source_position, ConfigEntry>> entries;
  for (const auto& [key, node] : table) {
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
