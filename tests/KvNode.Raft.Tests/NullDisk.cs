using KvNode.Raft.Wal;

namespace KvNode.Raft.Tests;

/// <summary>Keeps nothing and allocates nothing.</summary>
internal sealed class NullDisk : IDisk, IDiskFile
{
    public string Location => "null";

    public long FreeBytes => 1L << 40;

    public long Length => 0;

    public string[] List() => [];

    public IDiskFile Create(string name) => this;

    public IDiskFile Open(string name, bool readOnly = false) => this;

    public void Rename(string source, string target)
    {
    }

    public void Delete(string name)
    {
    }

    public void SyncDirectory()
    {
    }

    public int Read(long offset, Span<byte> buffer) => 0;

    public void Write(long offset, ReadOnlySpan<byte> data)
    {
    }

    public void SyncData()
    {
    }

    public void Dispose()
    {
    }
}
