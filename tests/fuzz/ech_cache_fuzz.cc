// The file of cached servers: what is read survives being written and read again, and is within its bounds.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/check.h"
#include "ech/cache_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tunnel;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto entries = ech::ParseCacheFile(text);
  if (!entries.ok()) return 0;
  TUNNEL_CHECK(entries->size() <= ech::kCachedServers);
  const std::string written = ech::FormatCacheFile(*entries);
  TUNNEL_CHECK(written.size() == text.size() && written.size() <= ech::kCacheFileLimitBytes);
  const auto again = ech::ParseCacheFile(written);
  TUNNEL_CHECK(again.ok() && std::ranges::is_permutation(*again, *entries));
  for (const ech::CacheEntry& entry : *entries) {
    if (!entry.config.has_value()) continue;
    ech::ConfigCache cache;
    const ech::TimePoint now{};
    if (!cache.Restore(*entry.config, entry.config->stored_seconds + 1, now)) continue;
    TUNNEL_CHECK(cache.Current(now).has_value());
    const auto saved = cache.Save(entry.config->stored_seconds + 1, now);
    TUNNEL_CHECK(saved.has_value() && saved->stored_seconds == entry.config->stored_seconds);
  }
  return 0;
}
