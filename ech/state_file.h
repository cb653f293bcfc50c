// Files that hold keys and other state: read with a bound, written so that a crash leaves the old or the new content.
//
// Blocking; called at start and from reload, never from a reactor's turn. Errors name the file and the reason.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "core/status.h"

namespace tunnel::ech {

// The largest key, certificate or config file that is read: a system's trust store is about 220 KiB.
inline constexpr size_t kStateFileLimitBytes = size_t{8} * 1024 * 1024;

struct StateFile {
  std::string text;
  std::chrono::system_clock::time_point modified;
  bool readable_by_others = false;  // the group's or the world's read bit is set
};

// Reads a regular file of at most kStateFileLimitBytes. kNotFound when there is none, kInvalidArgument otherwise.
[[nodiscard]] absl::StatusOr<StateFile> ReadStateFile(const std::filesystem::path& path);

// Replaces `path` by `text` with exactly `mode`: a temporary file in the same folder, fsync, rename, fsync of the
// folder.
[[nodiscard]] absl::Status WriteStateFile(const std::filesystem::path& path, std::string_view text, mode_t mode);

// Makes the folder and its parents, each one that was missing with mode 0700. A folder that exists keeps its mode.
[[nodiscard]] absl::Status MakeStateDirectory(const std::filesystem::path& directory);

// Overwrites what `text` holds in a way the compiler does not drop, then empties it.
void WipeString(std::string& text);

}  // namespace tunnel::ech
