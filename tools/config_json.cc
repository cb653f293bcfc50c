#include <algorithm>
#include <cstddef>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "tools/config_syntax.h"

namespace tunnel::tools {
namespace {

using Json = nlohmann::json;

// The text for the parser, counting the lines that it has taken: its events do not say where they are.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(std::string_view::const_iterator at, unsigned* line) : at_(at), line_(line) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    if (*at_ == '\n') ++*line_;
    ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    const CountingIterator before = *this;
    ++*this;
    return before;
  }
  friend bool operator==(const CountingIterator& a, const CountingIterator& b) { return a.at_ == b.at_; }

 private:
  std::string_view::const_iterator at_;
  unsigned* line_;
};

// Takes the parser's events. Objects and arrays below the file's level are noted and passed over.
class Reader final : public nlohmann::json_sax<Json> {
 public:
  explicit Reader(const unsigned& line) : line_(line) {}

  // The parser looks one character ahead to see where a number or a word ends, over a line's end at most.
  bool null() override { return Add(ConfigItem::Kind::kOther, "null"); }
  bool boolean(bool value) override { return Add(ConfigItem::Kind::kBoolean, value ? "true" : "false"); }
  bool number_integer(int64_t value) override { return Add(ConfigItem::Kind::kNumber, fmt::format("{}", value)); }
  bool number_unsigned(uint64_t value) override { return Add(ConfigItem::Kind::kNumber, fmt::format("{}", value)); }
  bool number_float(double /*value*/, const std::string& /*text*/) override {
    return Add(ConfigItem::Kind::kOther, "a fraction");
  }
  bool string(std::string& value) override { return Add(ConfigItem::Kind::kText, std::move(value)); }
  bool binary(Json::binary_t& /*value*/) override { return false; }

  bool start_object(size_t /*elements*/) override {
    if (depth_++ == 0) return true;
    return depth_ > kListDepth + 1 || AddNested("an object");
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool key(std::string& name) override {
    if (depth_ != 1) return true;
    const bool again = std::ranges::any_of(entries_, [&](const ConfigEntry& entry) { return entry.key == name; });
    if (again) return Fail("a key that is there only once");
    entries_.push_back({.key = std::move(name), .line = line_, .list = false, .items = {}});
    return true;
  }
  bool start_array(size_t /*elements*/) override {
    ++depth_;
    if (depth_ == 1) return Fail("an object, as { \"listen\": ... }");
    if (depth_ == kListDepth) {
      entries_.back().list = true;
      in_list_ = true;
      return true;
    }
    return depth_ > kListDepth + 1 || AddNested("an array");
  }
  bool end_array() override {
    if (depth_-- == kListDepth) in_list_ = false;
    return true;
  }
  bool parse_error(size_t /*position*/, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*error*/) override {
    // The parser's words quote what it read last.
    return Fail("JSON, and this is not from here on");
  }

  [[nodiscard]] absl::StatusOr<std::vector<ConfigEntry>> Take(bool parsed) && {
    if (!parsed) return InvalidArgument("{}: expected {}", failed_line_, failure_);
    return std::move(entries_);
  }

 private:
  // Depth 1 is the file's object, depth 2 a list in it.
  static constexpr unsigned kListDepth = 2;

  bool Fail(std::string_view expected) {
    failure_ = expected;
    failed_line_ = line_;
    return false;
  }
  bool Add(ConfigItem::Kind kind, std::string text) {
    if (depth_ == 0) return Fail("an object, as { \"listen\": ... }");
    if (depth_ > (in_list_ ? kListDepth : kListDepth - 1)) return true;
    ConfigEntry& entry = entries_.back();
    entry.items.push_back({.kind = kind, .text = std::move(text), .line = entry.list ? line_ : entry.line});
    return true;
  }
  // What just began is one level deeper than what it is an item of.
  bool AddNested(std::string_view what) {
    if (depth_ > (in_list_ ? kListDepth + 1 : kListDepth)) return true;
    entries_.back().items.push_back({.kind = ConfigItem::Kind::kOther, .text = std::string(what), .line = line_});
    return true;
  }

  const unsigned& line_;
  unsigned depth_ = 0;
  bool in_list_ = false;
  std::vector<ConfigEntry> entries_;
  std::string failure_ = "JSON";
  unsigned failed_line_ = 1;
};

}  // namespace

absl::StatusOr<std::vector<ConfigEntry>> ReadJson(std::string_view text) {
  unsigned line = 1;
  Reader reader(line);
  const bool parsed =
      Json::sax_parse(CountingIterator(text.begin(), &line), CountingIterator(text.end(), &line), &reader);
  return std::move(reader).Take(parsed);
}

}  // namespace tunnel::tools
