// Log lines: one line an event, to standard error. Never payload, tokens, session ids, or (below debug) target names.
#pragma once

#include <spdlog/spdlog.h>

#include <string_view>

#include "core/status.h"

namespace tunnel::core {

enum class LogFormat { kText, kJson };

// Sends log lines to standard error from any thread. `level` is one of error, warn, info, debug, trace. Once, at start.
void StartLog(std::string_view level, LogFormat format);
[[nodiscard]] bool IsLogLevel(std::string_view level);

}  // namespace tunnel::core
