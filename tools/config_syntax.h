// The two notations of a configuration file, read into one shape before anything is known of what the keys mean.
//
// Pure functions over text of any origin. Errors are one line that begins with the line number and hold nothing of the
// text but keys: what stands where a value should be may be a secret in the wrong place.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace tunnel::tools {

enum class ConfigFormat { kToml, kJson };

struct ConfigItem {
  enum class Kind { kText, kNumber, kBoolean, kOther };
  Kind kind = Kind::kOther;
  std::string text;  // the value; kOther: what it is instead of a value, "a table"
  unsigned line = 0;
};

// One key of the file's only level. `items` holds one item unless it is a list.
struct ConfigEntry {
  std::string key;
  unsigned line = 0;
  bool list = false;
  std::vector<ConfigItem> items;
};

// JSON when the name says so or the text begins as an object does, which no TOML document can.
[[nodiscard]] ConfigFormat FormatOf(std::string_view text, std::string_view path);

// The entries in the order of the text. Fails with `LINE: what is wrong`.
[[nodiscard]] absl::StatusOr<std::vector<ConfigEntry>> ReadToml(std::string_view text);
[[nodiscard]] absl::StatusOr<std::vector<ConfigEntry>> ReadJson(std::string_view text);

}  // namespace tunnel::tools
