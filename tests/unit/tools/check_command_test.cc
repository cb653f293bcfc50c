#include "tools/check_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tunnel::tools {
namespace {

using net::CheckOutcome;
using net::CheckStep;
using net::CheckStepId;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<CheckStep> Steps() {
  return {{.id = CheckStepId::kDoh, .outcome = CheckOutcome::kSkipped, .summary = "nothing to ask"},
          {.id = CheckStepId::kTcp, .took = std::chrono::microseconds(1234), .summary = "connected"},
          {.id = CheckStepId::kEch,
           .outcome = CheckOutcome::kFailed,
           .took = std::chrono::milliseconds(5),
           .summary = "rejected\nby \x1b[31mit\xff",
           .details = {{"outer name", "cover.test"}, {"outer name", "again"}}},
          {.id = CheckStepId::kUpgrade, .outcome = CheckOutcome::kFailed, .summary = "401"}};
}

TEST(CheckCommand, TheFirstFailureGivesTheExitStatus) {
  EXPECT_EQ(CheckExitStatus(Steps()), 16);
  std::vector<CheckStep> good = Steps();
  good.resize(2);
  EXPECT_EQ(CheckExitStatus(good), 0);
  EXPECT_EQ(CheckExitStatus({}), 0);
}

TEST(CheckCommand, TextIsALineAStep) {
  const std::string text = CheckText(Steps());
  EXPECT_THAT(text, StartsWith("-      doh                     nothing to ask\n"));
  EXPECT_THAT(text, HasSubstr("ok     tcp             1.2 ms  connected\n"));
  EXPECT_THAT(text, HasSubstr("FAILED ech             5.0 ms  rejected"));
  EXPECT_THAT(text, HasSubstr("                               outer name: cover.test\n"));
  EXPECT_THAT(text, HasSubstr("\nfailed at ech: rejected"));
  EXPECT_EQ(text.find('\x1b'), std::string::npos) << "what a peer said does not reach the terminal as it is";
  std::vector<CheckStep> good = Steps();
  good.resize(2);
  EXPECT_THAT(CheckText(good), HasSubstr("\nall is well\n"));
}

TEST(CheckCommand, JsonHoldsAllOfIt) {
  const nlohmann::json report = nlohmann::json::parse(CheckJson(Steps()));
  EXPECT_EQ(report["ok"], false);
  EXPECT_EQ(report["exit_status"], 16);
  ASSERT_EQ(report["steps"].size(), 4U);
  EXPECT_EQ(report["steps"][0]["outcome"], "skipped");
  EXPECT_EQ(report["steps"][1]["name"], "tcp");
  EXPECT_NEAR(report["steps"][1]["milliseconds"].get<double>(), 1.234, 1e-9);
  EXPECT_EQ(report["steps"][2]["details"][1], (std::vector<std::string>{"outer name", "again"}));
}

TEST(CheckCommand, HelpNamesEveryStep) {
  for (size_t i = 0; i < net::kCheckSteps; ++i) {
    EXPECT_THAT(CheckHelp(), HasSubstr(std::string(net::NameOf(static_cast<CheckStepId>(i)))));
  }
}

}  // namespace
}  // namespace tunnel::tools
