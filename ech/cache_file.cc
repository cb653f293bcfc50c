#include "ech/cache_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>
#include <tuple>
#include <utility>

#include "ech/state_file.h"
#include "proto/base64.h"

namespace tunnel::ech {
namespace {

constexpr std::string_view kCacheFileLastLine = "end";
constexpr size_t kCachedNameLimitBytes = 253;
// The year 9999: no sum of two such times overflows.
constexpr int64_t kLatestSeconds = 253'402'300'799;

// A number as it is written: no sign, no leading zeros.
std::optional<int64_t> ParseDecimal(std::string_view text, int64_t most) {
  if (text.empty() || (text.size() > 1 && text[0] == '0') || text[0] == '-') return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > most) return std::nullopt;
  return value;
}

bool IsCachedName(std::string_view name) {
  return !name.empty() && name.size() <= kCachedNameLimitBytes &&
         std::ranges::all_of(name, [](char c) { return c > 0x20 && c < 0x7f && (c < 'A' || c > 'Z'); });
}

// The words of a line, exactly one space between.
class Words {
 public:
  explicit Words(std::string_view line) : rest_(line) {}
  // Empty when there is none, which no word is.
  std::string_view Next() {
    const size_t space = rest_.find(' ');
    const std::string_view word = rest_.substr(0, space);
    ended_ = space == std::string_view::npos;
    rest_.remove_prefix(ended_ ? rest_.size() : space + 1);
    return word;
  }
  // Nothing is left, not even a space.
  [[nodiscard]] bool AtEnd() const { return ended_; }

 private:
  std::string_view rest_;
  bool ended_ = false;
};

bool ParseTimes(Words& words, int64_t& stored, int64_t& expires) {
  const auto first = ParseDecimal(words.Next(), kLatestSeconds);
  const auto second = ParseDecimal(words.Next(), kLatestSeconds);
  if (!first.has_value() || !second.has_value() || *second < *first) return false;
  stored = *first;
  expires = *second;
  return true;
}

// "192.0.2.1:443" or "[2001:db8::1]:443", as SocketAddress writes it.
std::optional<core::SocketAddress> ParseCachedAddress(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto port = ParseDecimal(text.substr(colon + 1), 65535);
  std::string_view ip = text.substr(0, colon);
  if (ip.size() >= 2 && ip.front() == '[' && ip.back() == ']') ip = ip.substr(1, ip.size() - 2);
  if (!port.has_value() || *port == 0) return std::nullopt;
  auto address = core::SocketAddress::Parse(ip, static_cast<uint16_t>(*port));
  if (!address.has_value() || address->ToString() != text) return std::nullopt;
  return address;
}

bool ParseServerLine(Words& words, CacheEntry& entry) {
  entry.key.host = std::string(words.Next());
  const auto port = ParseDecimal(words.Next(), 65535);
  entry.key.ech_name = std::string(words.Next());
  if (!port.has_value() || *port == 0 || !words.AtEnd()) return false;
  entry.key.port = static_cast<uint16_t>(*port);
  return IsCachedName(entry.key.host) && IsCachedName(entry.key.ech_name);
}

bool ParseListLine(Words& words, CacheEntry& entry) {
  if (entry.config.has_value() || entry.addresses.has_value()) return false;
  SavedConfig config;
  const std::string_view origin = words.Next();
  if (origin != "dns" && origin != "retry") return false;
  config.origin = origin == "dns" ? ConfigOrigin::kDns : ConfigOrigin::kRetryConfigs;
  if (!ParseTimes(words, config.stored_seconds, config.expires_seconds)) return false;
  const std::string_view encoded = words.Next();
  if (encoded.empty() || encoded.size() > kCachedListLimitBytes * 4 / 3 + 4 || !words.AtEnd()) return false;
  auto list = proto::Base64Decode(encoded);
  if (!list.has_value() || list->size() > kCachedListLimitBytes) return false;
  config.list = *std::move(list);
  entry.config = std::move(config);
  return true;
}

bool ParseRejectedLine(Words& words, CacheEntry& entry) {
  if (!entry.config.has_value() || entry.addresses.has_value()) return false;
  std::vector<Sha256Digest>& rejected = entry.config->rejected;
  const auto bytes = proto::Base64Decode(words.Next());
  Sha256Digest digest{};
  if (!bytes.has_value() || bytes->size() != digest.size() || !words.AtEnd()) return false;
  if (rejected.size() == kRejectedLists) return false;
  std::ranges::copy(*bytes, digest.begin());
  if (std::ranges::find(rejected, digest) != rejected.end()) return false;
  rejected.push_back(digest);
  return true;
}

bool ParseAddressesLine(Words& words, CacheEntry& entry) {
  if (entry.addresses.has_value()) return false;
  SavedAddresses saved;
  if (!ParseTimes(words, saved.stored_seconds, saved.expires_seconds) || words.AtEnd()) return false;
  while (!words.AtEnd()) {
    const auto address = ParseCachedAddress(words.Next());
    if (!address.has_value() || saved.addresses.size() == kCachedAddresses) return false;
    saved.addresses.push_back(*address);
  }
  entry.addresses = std::move(saved);
  return true;
}

int64_t NewestOf(const CacheEntry& entry) {
  int64_t newest = 0;
  if (entry.config.has_value()) newest = entry.config->stored_seconds;
  if (entry.addresses.has_value()) newest = std::max(newest, entry.addresses->stored_seconds);
  return newest;
}

// Takes the lock of a folder for as long as it lives. A file system that has none is done without.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder)
      : fd_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    busy_ = fd_ >= 0 && ::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  }
  ~FolderLock() {
    if (fd_ >= 0) ::close(fd_);
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  [[nodiscard]] bool busy() const { return busy_; }

 private:
  int fd_;
  bool busy_ = false;
};

// Renames what cannot be understood, and says so.
std::string PutAside(const std::filesystem::path& path, const absl::Status& why) {
  std::filesystem::path aside = path;
  aside += kCacheFileBadSuffix;
  std::error_code error;
  std::filesystem::rename(path, aside, error);
  if (error)
    return fmt::format("{}: {}; it is not used, and cannot be renamed: {}", path.string(), MessageOf(why),
                       error.message());
  return fmt::format("{}: {}; it was put aside as {}", path.string(), MessageOf(why), aside.string());
}

// Every entry; none when there is no file or it was put aside.
absl::StatusOr<std::vector<CacheEntry>> LoadAll(const std::filesystem::path& path, std::string& warning) {
  const absl::StatusOr<StateFile> file = ReadStateFile(path);
  if (absl::IsNotFound(file.status())) return std::vector<CacheEntry>();
  if (!file.ok()) return file.status();
  absl::StatusOr<std::vector<CacheEntry>> entries = ParseCacheFile(file->text);
  if (entries.ok()) return entries;
  warning = PutAside(path, entries.status());
  return std::vector<CacheEntry>();
}

}  // namespace

absl::StatusOr<std::vector<CacheEntry>> ParseCacheFile(std::string_view text) {
  if (text.size() > kCacheFileLimitBytes) {
    return InvalidArgument("{} bytes, more than the {} of a cache", text.size(), kCacheFileLimitBytes);
  }
  std::vector<CacheEntry> entries;
  size_t number = 0;
  bool ended = false;
  while (!text.empty()) {
    ++number;
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return InvalidArgument("line {} is cut short", number);
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (number == 1) {
      if (line == kCacheFileFirstLine) continue;
      return InvalidArgument("line 1 is not \"{}\"", kCacheFileFirstLine);
    }
    if (ended) return InvalidArgument("there is a line {} behind the last", number);
    Words words(line);
    const std::string_view kind = words.Next();
    bool good = false;
    if (kind == "server") {
      entries.emplace_back();
      good = entries.size() <= kCachedServers && ParseServerLine(words, entries.back()) &&
             std::ranges::count(entries, entries.back().key, &CacheEntry::key) == 1;
    } else if (kind == kCacheFileLastLine) {
      good = ended = words.AtEnd();
    } else if (!entries.empty()) {
      CacheEntry& entry = entries.back();
      good = (kind == "list" && ParseListLine(words, entry)) ||
             (kind == "rejected" && ParseRejectedLine(words, entry)) ||
             (kind == "addresses" && ParseAddressesLine(words, entry));
    }
    if (!good) return InvalidArgument("line {} is not understood", number);
  }
  if (!ended) return InvalidArgument("the last line is missing");
  return entries;
}

namespace {

std::string FormatServerLine(const CacheKey& key) {
  return fmt::format("server {} {} {}\n", key.host, key.port, key.ech_name);
}

std::string FormatConfig(const SavedConfig& config) {
  std::string text = fmt::format("list {} {} {} {}\n", config.origin == ConfigOrigin::kDns ? "dns" : "retry",
                                 config.stored_seconds, config.expires_seconds, proto::Base64Encode(config.list));
  for (const Sha256Digest& digest : config.rejected) text += fmt::format("rejected {}\n", proto::Base64Encode(digest));
  return text;
}

std::string FormatAddresses(const SavedAddresses& saved) {
  std::string text = fmt::format("addresses {} {}", saved.stored_seconds, saved.expires_seconds);
  const size_t count = std::min(saved.addresses.size(), kCachedAddresses);
  for (size_t i = 0; i < count; ++i) text += fmt::format(" {}", saved.addresses[i].ToString());
  return text + '\n';
}

// Whether these lines would be read again. What would not must not take the rest of the file with it.
bool CanBeRead(const std::string& lines) {
  return ParseCacheFile(fmt::format("{}\n{}{}\n", kCacheFileFirstLine, lines, kCacheFileLastLine)).ok();
}

std::string FormatEntry(const CacheEntry& entry) {
  const std::string server = FormatServerLine(entry.key);
  if (!CanBeRead(server)) return "";
  std::string text = server;
  if (entry.config.has_value() && entry.config->list.size() <= kCachedListLimitBytes) {
    const std::string lines = FormatConfig(*entry.config);
    if (CanBeRead(server + lines)) text += lines;
  }
  if (entry.addresses.has_value()) {
    const std::string line = FormatAddresses(*entry.addresses);
    if (CanBeRead(server + line)) text += line;
  }
  return text;
}

}  // namespace

std::string FormatCacheFile(std::vector<CacheEntry> entries) {
  std::ranges::sort(entries, [](const CacheEntry& a, const CacheEntry& b) {
    return std::tuple(NewestOf(b), std::tie(a.key.host, a.key.port, a.key.ech_name)) <
           std::tuple(NewestOf(a), std::tie(b.key.host, b.key.port, b.key.ech_name));
  });
  if (entries.size() > kCachedServers) entries.resize(kCachedServers);
  std::string text = fmt::format("{}\n", kCacheFileFirstLine);
  for (const CacheEntry& entry : entries) text += FormatEntry(entry);
  text += fmt::format("{}\n", kCacheFileLastLine);
  return text;
}

absl::StatusOr<std::optional<CacheEntry>> LoadCacheEntry(const std::filesystem::path& path, const CacheKey& key,
                                                         std::string& warning) {
  absl::StatusOr<std::vector<CacheEntry>> entries = LoadAll(path, warning);
  if (!entries.ok()) return entries.status();
  const auto found = std::ranges::find(*entries, key, &CacheEntry::key);
  if (found == entries->end()) return std::optional<CacheEntry>();
  return std::optional<CacheEntry>(std::move(*found));
}

absl::Status SaveCacheEntry(const std::filesystem::path& path, const CacheEntry& entry, std::string& warning) {
  TUNNEL_RETURN_IF_ERROR(MakeStateDirectory(path.parent_path()));
  const FolderLock lock(path.parent_path());
  if (lock.busy()) return absl::AbortedError("another process is writing it");
  absl::StatusOr<std::vector<CacheEntry>> entries = LoadAll(path, warning);
  if (!entries.ok()) return entries.status();
  const auto found = std::ranges::find(*entries, entry.key, &CacheEntry::key);
  if (found == entries->end()) {
    entries->push_back(entry);
  } else {
    if (entry.config.has_value()) found->config = entry.config;
    if (entry.addresses.has_value()) found->addresses = entry.addresses;
  }
  return WriteStateFile(path, FormatCacheFile(*std::move(entries)), 0600);
}

}  // namespace tunnel::ech
