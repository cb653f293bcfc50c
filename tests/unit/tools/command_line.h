// Command lines of one string, parsed on a host of the test's own making.
#pragma once

#include <gtest/gtest.h>

#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "fake_surroundings.h"
#include "tools/flags.h"

namespace tunnel::tools {

// What must be seen nowhere.
inline constexpr const char* kSecret = "S3cr3t-Value-Of-A-Token";
inline constexpr const char* kPassword = "P4ssw0rd-0f-A-Proxy";

inline std::vector<std::string> Words(const std::string& line) {
  std::istringstream in(line);
  return {std::istream_iterator<std::string>(in), std::istream_iterator<std::string>()};
}

inline absl::StatusOr<CommandLine> Parse(const std::string& line, const FakeSurroundings& surroundings = {}) {
  return ParseCommandLine(Words(line), surroundings);
}

inline net::Config Good(const std::string& line, const FakeSurroundings& surroundings = {}) {
  const absl::StatusOr<CommandLine> parsed = Parse(line, surroundings);
  EXPECT_TRUE(parsed.ok()) << line << ": " << MessageOf(parsed.status());
  return parsed.ok() ? parsed->config : net::Config();
}

// The message of what was refused, which is one line.
inline std::string ErrorIn(const absl::StatusOr<CommandLine>& parsed) {
  if (parsed.ok()) return "(no error)";
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(MessageOf(parsed.status()));
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  return message;
}

inline std::string ErrorOf(const std::string& line, const FakeSurroundings& surroundings = {}) {
  return ErrorIn(Parse(line, surroundings));
}

}  // namespace tunnel::tools
