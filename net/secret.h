// Secrets in memory, and comparing one with what a stranger sent.
#pragma once

#include <string>
#include <string_view>

namespace tunnel::net {

// A string that is overwritten when it goes and has no way to be printed. Moving leaves the source empty and wiped.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string text) : text_(std::move(text)) {}
  ~Secret();
  Secret(const Secret&) = default;
  Secret& operator=(const Secret& other);
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;

  [[nodiscard]] bool empty() const { return text_.empty(); }
  // The text itself; the caller takes care where it goes.
  [[nodiscard]] std::string_view Reveal() const { return text_; }

 private:
  void Wipe();

  std::string text_;
};

// Whether `given` is the secret. Both are hashed with SHA-256 and the digests compared in constant time, so the time
// taken tells the length of `given`, which its sender knows, and nothing about the secret.
[[nodiscard]] bool SecretEquals(const Secret& secret, std::string_view given);

}  // namespace tunnel::net
