// The file in -state in which a client keeps what it knows of its servers, so that it starts without DoH:
// docs/ech-cache.md has the grammar.
//
// Parsing and writing are pure. What touches the file blocks: at start, or on a core::Worker.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/socket_address.h"
#include "core/status.h"
#include "ech/config_cache.h"

namespace tunnel::ech {

inline constexpr std::string_view kCacheFileName = "ech-cache";
// What a file that cannot be read is renamed to, in place of the last one of that name.
inline constexpr std::string_view kCacheFileBadSuffix = ".bad";
inline constexpr std::string_view kCacheFileFirstLine = "ech-tunnel ech-cache 1";
inline constexpr size_t kCachedServers = 64;
inline constexpr size_t kCachedAddresses = 32;
// An ECHConfig has about 70 bytes; a list over this is used and not kept.
inline constexpr size_t kCachedListLimitBytes = size_t{8} * 1024;
inline constexpr size_t kCacheFileLimitBytes = size_t{1024} * 1024;
static_assert(kCachedServers * (kCachedListLimitBytes * 4 / 3 + kCachedAddresses * 56 + 1024) < kCacheFileLimitBytes);

// Which server an entry is about. Names are lower case, without a final dot.
struct CacheKey {
  std::string host;
  uint16_t port = 443;
  std::string ech_name;

  bool operator==(const CacheKey&) const = default;
};

struct SavedAddresses {
  int64_t stored_seconds = 0;  // since 1970
  int64_t expires_seconds = 0;
  std::vector<core::SocketAddress> addresses;  // in the order to dial them; IP and port

  bool operator==(const SavedAddresses&) const = default;
};

// Either part may be missing.
struct CacheEntry {
  CacheKey key;
  std::optional<SavedConfig> config;
  std::optional<SavedAddresses> addresses;

  bool operator==(const CacheEntry&) const = default;
};

// Every entry of a file's text. Fails with kInvalidArgument, saying the line and what is expected there, unless the
// text is exactly what FormatCacheFile writes for some entries; a text that was cut short is not. Lists are not judged.
[[nodiscard]] absl::StatusOr<std::vector<CacheEntry>> ParseCacheFile(std::string_view text);

// The text of these entries, within the bounds above: a list over its limit is left out, so are addresses over theirs,
// and of servers over theirs those whose entries are oldest. What ParseCacheFile would refuse is left out too.
[[nodiscard]] std::string FormatCacheFile(std::vector<CacheEntry> entries);

// The entry of `key` in `path`; nothing when there is no file, or no such entry. A file that cannot be understood is
// put aside, renamed to end in kCacheFileBadSuffix; `warning` then says so. Any other failure is a status. Blocking.
[[nodiscard]] absl::StatusOr<std::optional<CacheEntry>> LoadCacheEntry(const std::filesystem::path& path,
                                                                       const CacheKey& key, std::string& warning);

// Puts `entry` into `path`, whose folder is made when it is missing: the parts that it has replace those of the same
// key, everything else in the file stays. Mode 0600, replaced as WriteStateFile does. kAborted while another process is
// at it, which takes moments. A file that cannot be understood is put aside as above. Blocking.
[[nodiscard]] absl::Status SaveCacheEntry(const std::filesystem::path& path, const CacheEntry& entry,
                                          std::string& warning);

}  // namespace tunnel::ech
