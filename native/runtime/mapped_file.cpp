#include "mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "error.h"
#include "huge_pages.h"

namespace alma {
namespace {

// Whether the system has these bytes in memory, as samples tell.
bool is_cached([[maybe_unused]] int file, [[maybe_unused]] uint64_t begin, [[maybe_unused]] uint64_t end) {
#if defined(SYS_preadv2) && defined(RWF_NOWAIT)
  for (uint64_t at = begin; at < end; at += uint64_t{1} << 20) {
    char byte = 0;
    iovec to{&byte, 1};
    // Low and high half of the offset: the latter counts where a long has 32 bits.
    if (syscall(SYS_preadv2, file, &to, 1L, static_cast<long>(at), static_cast<long>(at >> 16 >> 16), RWF_NOWAIT) != 1)
      return false;
  }
  return true;
#else
  return false;
#endif
}

}  // namespace

MappedFile::MappedFile(const std::string& path, uint64_t offset, size_t bytes) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw Error("ERR_ALMA_IO", "cannot open " + path + ": " + std::strerror(errno));
  struct stat status {};
  const bool known = fstat(file, &status) == 0;
  const uint64_t size = known ? static_cast<uint64_t>(status.st_size) : 0;
  // Touching pages behind the end of a file is a SIGBUS, so the length is checked against what the file has now.
  if (!known || offset > size || bytes > size - offset) {
    close(file);
    throw Error("ERR_ALMA_CHECKPOINT", path + ": expected " + std::to_string(bytes) + " bytes at offset " +
                                           std::to_string(offset) + ", the file has " + std::to_string(size) +
                                           " bytes");
  }
  if (bytes > 0) {
    // A large mapping begins and ends with huge pages, so that it loses none at its edges where the file lies in memory so.
    const uint64_t page =
        std::max<uint64_t>(static_cast<uint64_t>(sysconf(_SC_PAGESIZE)), bytes < kHugePage ? 0 : kHugePage);
    const uint64_t start = offset / page * page, end = (offset + bytes + page - 1) / page * page;
    length_ = static_cast<size_t>(end - start);
    base_ = mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, static_cast<off_t>(start));
    if (base_ == MAP_FAILED) {
      const std::string reason = std::strerror(errno);
      base_ = nullptr;
      close(file);
      throw Error("ERR_ALMA_IO", "cannot map " + path + ": " + reason);
    }
    // To be asked for takes as long as a fifth of reading it, also where there is nothing to do.
    if (!is_cached(file, offset, offset + bytes)) madvise(base_, length_, MADV_WILLNEED);
    data_ = static_cast<char*>(base_) + (offset - start);
  }
  close(file);
}

MappedFile::~MappedFile() {
  if (base_ != nullptr) munmap(base_, length_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)),
      length_(std::exchange(other.length_, 0)),
      data_(std::exchange(other.data_, nullptr)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(length_, other.length_);
  std::swap(data_, other.data_);
  return *this;
}

}  // namespace alma
