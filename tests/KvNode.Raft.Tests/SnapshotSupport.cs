using KvNode.Raft.Snapshots;
using Xunit;

namespace KvNode.Raft.Tests;

/// <summary>Given bytes as a snapshot.</summary>
internal sealed class BytesSnapshot(byte[] state, EntryId position, params string[] members) : ISnapshotReader
{
    private int _offset;

    /// <summary>Thrown instead of the end, when set.</summary>
    public Exception? Failure { get; init; }

    public SnapshotMeta Meta { get; } = new(position, 42, members, default);

    public int Read(Span<byte> buffer)
    {
        // Short reads are allowed, so the fake makes them.
        var count = Math.Min(Math.Min(buffer.Length, 1000), state.Length - _offset);
        state.AsSpan(_offset, count).CopyTo(buffer);
        _offset += count;
        return count == 0 && Failure is not null ? throw Failure : count;
    }

    public void Dispose()
    {
    }
}

/// <summary>A clock that stands where it is put.</summary>
internal sealed class StandingClock(long unixMs) : TimeProvider
{
    public long UnixMs { get; set; } = unixMs;

    public override DateTimeOffset GetUtcNow() => DateTimeOffset.FromUnixTimeMilliseconds(UnixMs);
}

internal static class SnapshotSupport
{
    public static byte[] RandomBytes(int seed, int length)
    {
        var bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    public static SnapshotInfo SampleInfo() => new()
    {
        Id = "7-1234-1700000000123",
        Position = new EntryId(7, 1234),
        UnixMs = 1_700_000_000_123,
        Size = 987_654_321,
        Crc = 0x995DC9BBDF1939FA,
        Count = 1_000_000,
        Members = ["10.0.0.1:4920", "node-two.example.org:4920"],
        Format = 1,
    };

    public static void AssertSame(SnapshotInfo expected, SnapshotInfo actual)
    {
        Assert.Equal(expected.Members, actual.Members);
        Assert.Equal(expected with { Members = [] }, actual with { Members = [] });
    }

    public static void CopyTree(string source, string target)
    {
        _ = Directory.CreateDirectory(target);
        foreach (var directory in Directory.GetDirectories(source))
        {
            CopyTree(directory, Path.Combine(target, Path.GetFileName(directory)));
        }

        foreach (var file in Directory.GetFiles(source))
        {
            File.Copy(file, Path.Combine(target, Path.GetFileName(file)));
        }
    }
}
