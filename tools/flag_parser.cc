#include "tools/flag_parser.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>

namespace tunnel::tools {
namespace {

constexpr size_t kQuotedLimitBytes = 120;

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

bool EqualIgnoringCase(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return Lower(x) == Lower(y); });
}

// Insertions, deletions, substitutions and swaps of neighbours that make `a` into `b`.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> before_last(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const bool same = Lower(a[i - 1]) == Lower(b[j - 1]);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    std::swap(before_last, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

std::string Expectation(const FlagSpec& spec) {
  return spec.boolean() ? "true or false" : fmt::format("-{} {}", spec.name, spec.argument);
}

const FlagSpec* Find(std::span<const FlagSpec* const> specs, std::string_view name) {
  const auto found = std::ranges::find_if(specs, [&](const FlagSpec* spec) { return spec->name == name; });
  return found == specs.end() ? nullptr : *found;
}

// The name in `-name`, `--name` and `-name=value`; nothing where `argument` is no flag.
std::optional<std::string_view> FlagName(std::string_view argument) {
  if (argument.size() < 2 || argument[0] != '-' || argument == "--") return std::nullopt;
  argument.remove_prefix(argument[1] == '-' ? 2 : 1);
  return argument.substr(0, argument.find('='));
}

// Whether `argument` is one of `specs`. A flag whose value was forgotten must not take the next one for it, and then
// quote what may be a token.
bool IsFlag(std::string_view argument, std::span<const FlagSpec* const> specs) {
  const std::optional<std::string_view> name = FlagName(argument);
  return name && Find(specs, *name) != nullptr;
}

absl::Status UnknownFlag(std::string_view name, std::span<const FlagSpec* const> specs) {
  std::vector<std::string_view> names;
  names.reserve(specs.size());
  for (const FlagSpec* spec : specs) names.push_back(spec->name);
  const std::string hint = DidYouMean(name, names, "-");
  return InvalidArgument("unknown flag -{}{}", OneLine(name.substr(0, kQuotedLimitBytes)),
                         hint.empty() ? "; -h lists the flags" : hint);
}

// `previous` is the flag before it, or null.
absl::Status StrayArgument(std::string_view argument, const FlagSpec* previous) {
  if (previous == nullptr) return InvalidArgument("unexpected argument {}: flags begin with -", Quoted(argument));
  if (previous->secrecy == Secrecy::kSecret) {
    return InvalidArgument("-{} takes one value, and another argument follows it (not shown)", previous->name);
  }
  if (previous->boolean()) {
    return InvalidArgument("unexpected argument {} after -{}, which takes its value as -{}=false", Quoted(argument),
                           previous->name, previous->name);
  }
  return InvalidArgument("unexpected argument {} after the value of -{}: flags begin with -", Quoted(argument),
                         previous->name);
}

}  // namespace

absl::StatusOr<std::string> ParseBoolean(std::string_view text) {
  constexpr std::array<std::string_view, 6> kTrue = {"1", "t", "T", "true", "TRUE", "True"};
  constexpr std::array<std::string_view, 6> kFalse = {"0", "f", "F", "false", "FALSE", "False"};
  if (std::ranges::find(kTrue, text) != kTrue.end()) return "true";
  if (std::ranges::find(kFalse, text) != kFalse.end()) return "false";
  return InvalidArgument("{}: expected true or false", Quoted(text));
}

absl::StatusOr<std::vector<GivenFlag>> SplitArguments(std::span<const std::string> args,
                                                      std::span<const FlagSpec* const> specs) {
  std::vector<GivenFlag> given;
  const FlagSpec* previous = nullptr;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string_view text = args[i];
    const std::optional<std::string_view> name = FlagName(text);
    if (!name) return StrayArgument(text, previous);
    const FlagSpec* const spec = Find(specs, *name);
    if (spec == nullptr) return UnknownFlag(*name, specs);
    const size_t equals = text.find('=');
    previous = spec;

    GivenFlag flag{.spec = spec, .value = {}, .source = fmt::format("-{}", spec->name), .origin = "command line"};
    if (equals != std::string_view::npos) {
      flag.value = std::string(text.substr(equals + 1));
    } else if (spec->boolean()) {
      flag.value = "true";
    } else if (i + 1 < args.size() && (spec->secrecy == Secrecy::kSecret || !IsFlag(args[i + 1], specs))) {
      flag.value = args[++i];
    } else {
      return InvalidArgument("-{} needs a value: expected {}", spec->name, Expectation(*spec));
    }
    if (spec->boolean()) {
      absl::StatusOr<std::string> boolean = ParseBoolean(flag.value);
      if (!boolean.ok()) return InvalidArgument("-{} {}", spec->name, MessageOf(boolean.status()));
      flag.value = *std::move(boolean);
    }
    const bool again = std::ranges::any_of(given, [&](const GivenFlag& other) { return other.spec == spec; });
    if (again && !spec->repeatable) return InvalidArgument("-{} is given twice", spec->name);
    given.push_back(std::move(flag));
  }
  return given;
}

std::string_view NearestOf(std::string_view word, std::span<const std::string_view> candidates) {
  constexpr size_t kLongestWord = 64;  // longer ones are no misspelling, and the distance costs a product of lengths
  if (word.size() > kLongestWord) return {};
  std::string_view nearest;
  size_t nearest_distance = word.size() > 3 ? 3 : 2;  // exclusive
  for (const std::string_view candidate : candidates) {
    // A single letter is one edit away from every other one.
    if (word.size() <= 1 || candidate.size() <= 1) {
      if (EqualIgnoringCase(word, candidate)) return candidate;
      continue;
    }
    const size_t distance = EditDistance(word, candidate);
    if (distance < nearest_distance) {
      nearest = candidate;
      nearest_distance = distance;
    }
  }
  return nearest;
}

std::string DidYouMean(std::string_view word, std::span<const std::string_view> candidates, std::string_view prefix) {
  const std::string_view nearest = NearestOf(word, candidates);
  return nearest.empty() ? "" : fmt::format(" (did you mean {}{}?)", prefix, nearest);
}

std::string OneLine(std::string_view text) {
  std::string line;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      fmt::format_to(std::back_inserter(line), "\\x{:02x}", byte);
    } else {
      line += c;
    }
  }
  return line;
}

std::string Quoted(std::string_view text) {
  if (text.size() <= kQuotedLimitBytes) return fmt::format("\"{}\"", OneLine(text));
  size_t cut = kQuotedLimitBytes;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0) == 0x80) --cut;  // not within a UTF-8 character
  return fmt::format("\"{}...\"", OneLine(text.substr(0, cut)));
}

}  // namespace tunnel::tools
