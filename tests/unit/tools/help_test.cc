#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "command_line.h"
#include "tools/flag_table.h"

namespace tunnel::tools {
namespace {

using testing::HasSubstr;

TEST(Help, NamesEveryFlagWithItsDefault) {
  const std::string help = HelpText();
  for (const Flag& flag : FlagTable()) {
    EXPECT_THAT(help, HasSubstr(fmt::format("\n  -{}{}{}", flag.spec.name, flag.spec.boolean() ? "" : " ",
                                            flag.spec.argument)));
    EXPECT_FALSE(flag.help.empty()) << flag.spec.name;
    if (flag.set != nullptr) {
      EXPECT_FALSE(flag.default_text.empty()) << flag.spec.name;
    }
  }
}

TEST(Help, FitsAHundredColumns) {
  std::istringstream lines(HelpText());
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100U) << line;
}

TEST(Help, ExamplesWork) {
  const FakeSurroundings surroundings;
  EXPECT_GE(HelpExamples().size(), 3U);
  for (const std::vector<std::string>& args : HelpExamples()) {
    const absl::StatusOr<CommandLine> parsed = ParseCommandLine(args, surroundings);
    EXPECT_TRUE(parsed.ok()) << MessageOf(parsed.status());
  }
}

}  // namespace
}  // namespace tunnel::tools
