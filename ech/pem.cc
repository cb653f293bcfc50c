#include "ech/pem.h"

#include <openssl/mem.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "ech/state_file.h"
#include "proto/base64.h"

namespace tunnel::ech {
namespace {

constexpr std::string_view kBegin = "-----BEGIN ";
constexpr std::string_view kEnd = "-----END ";
constexpr std::string_view kDashes = "-----";
constexpr size_t kLineChars = 64;

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f'; }

std::string_view TrimEnd(std::string_view line) {
  while (!line.empty() && IsSpace(line.back())) line.remove_suffix(1);
  return line;
}

// Takes the next line off `text`, without its line end and the space before it.
std::string_view TakeLine(std::string_view& text) {
  const size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return TrimEnd(line);
}

// The label of a "-----BEGIN label-----" or "-----END label-----" line, or an empty view.
std::string_view LabelOf(std::string_view line, std::string_view start) {
  if (line.size() <= start.size() + kDashes.size() || !line.starts_with(start) || !line.ends_with(kDashes)) return {};
  return line.substr(start.size(), line.size() - start.size() - kDashes.size());
}

}  // namespace

PemBlocks::~PemBlocks() {
  for (PemBlock& block : blocks_) OPENSSL_cleanse(block.bytes.data(), block.bytes.size());
}

const PemBlock* PemBlocks::First(std::string_view label) const {
  const auto found = std::ranges::find(blocks_, label, &PemBlock::label);
  return found == blocks_.end() ? nullptr : &*found;
}

size_t PemBlocks::Count(std::string_view label) const {
  return static_cast<size_t>(std::ranges::count(blocks_, label, &PemBlock::label));
}

absl::StatusOr<PemBlocks> ParsePem(std::string_view text) {
  PemBlocks blocks;
  size_t line_number = 0;
  while (!text.empty()) {
    ++line_number;
    const std::string_view label = LabelOf(TakeLine(text), kBegin);
    if (label.empty()) continue;
    const size_t begin_line = line_number;
    if (blocks.all().size() == kPemBlockLimit) return InvalidArgument("more than {} PEM blocks", kPemBlockLimit);
    const char* const body_start = text.data();
    const char* body_end = nullptr;
    while (!text.empty() && body_end == nullptr) {
      ++line_number;
      const char* const line_start = text.data();
      const std::string_view line = TakeLine(text);
      if (line.starts_with(kEnd)) {
        if (LabelOf(line, kEnd) != label) {
          return InvalidArgument("the PEM block of line {} is ended by another's end in line {}", begin_line,
                                 line_number);
        }
        body_end = line_start;
      } else if (line.find(':') != std::string_view::npos) {
        return InvalidArgument("the PEM block of line {} is encrypted or has headers: only plain ones are read",
                               begin_line);
      }
    }
    if (body_end == nullptr) return InvalidArgument("the PEM block of line {} has no end", begin_line);
    absl::StatusOr<std::vector<uint8_t>> bytes = DecodeBase64({body_start, static_cast<size_t>(body_end - body_start)});
    if (!bytes.ok()) return Annotate(bytes.status(), "the PEM block of line {}", begin_line);
    blocks.Add({std::string(label), *std::move(bytes)});
  }
  return blocks;
}

std::string EncodePem(std::string_view label, std::span<const uint8_t> bytes) {
  std::string base64 = proto::Base64Encode(bytes);
  std::string out;
  // All at once: growing would leave copies of a private key in freed memory.
  out.reserve(base64.size() + base64.size() / kLineChars + 2 * label.size() + 48);
  out.append(kBegin).append(label).append(kDashes).append("\n");
  for (size_t i = 0; i < base64.size(); i += kLineChars) out.append(base64, i, kLineChars).append("\n");
  out.append(kEnd).append(label).append(kDashes).append("\n");
  WipeString(base64);
  return out;
}

absl::StatusOr<std::vector<uint8_t>> DecodeBase64(std::string_view text) {
  std::string packed;
  packed.reserve(text.size());
  std::ranges::copy_if(text, std::back_inserter(packed), [](char c) { return !IsSpace(c); });
  std::optional<std::vector<uint8_t>> bytes = proto::Base64Decode(packed);
  WipeString(packed);
  if (!bytes.has_value()) return InvalidArgument("not base64");
  return *std::move(bytes);
}

absl::StatusOr<std::vector<uint8_t>> ConfigListFromText(std::string_view text) {
  if (text.find(kBegin) == std::string_view::npos) {
    absl::StatusOr<std::vector<uint8_t>> bytes = DecodeBase64(text);
    if (bytes.ok() && bytes->empty()) return InvalidArgument("an empty ECHConfigList");
    return bytes;
  }
  const absl::StatusOr<PemBlocks> blocks = ParsePem(text);
  if (!blocks.ok()) return blocks.status();
  if (blocks->Count(kEchConfigLabel) != 1) {
    return InvalidArgument("{} {} blocks where one is needed", blocks->Count(kEchConfigLabel), kEchConfigLabel);
  }
  return blocks->First(kEchConfigLabel)->bytes;
}

}  // namespace tunnel::ech
