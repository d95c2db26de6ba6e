using KvNode.Raft.Snapshots;
using Xunit;

namespace KvNode.Raft.Tests;

public sealed class SnapshotCrc64Tests
{
    [Fact]
    public void TheCheckValueIsThatOfCrc64Xz() =>
        Assert.Equal(0x995DC9BBDF1939FAu, Crc64.Finish(Crc64.Append(Crc64.Start, "123456789"u8)));

    [Fact]
    public void AllLengthsAndSplitsAgreeWithTheDefinition()
    {
        var bytes = SnapshotSupport.RandomBytes(1, 200);
        for (var length = 0; length <= bytes.Length; length++)
        {
            var expected = ByDefinition(bytes.AsSpan(0, length));
            var split = (length * 7) % (length + 1);
            Assert.Equal(expected, Crc64.Finish(Crc64.Append(Crc64.Start, bytes.AsSpan(0, length))));
            var state = Crc64.Append(Crc64.Start, bytes.AsSpan(0, split));
            Assert.Equal(expected, Crc64.Finish(Crc64.Append(state, bytes.AsSpan(split, length - split))));
        }
    }

    /// <summary>Bit by bit, from the reflected polynomial.</summary>
    private static ulong ByDefinition(ReadOnlySpan<byte> bytes)
    {
        var crc = ulong.MaxValue;
        foreach (var value in bytes)
        {
            crc ^= value;
            for (var bit = 0; bit < 8; bit++)
            {
                crc = (crc & 1) != 0 ? (crc >> 1) ^ 0xC96C5795D7870F42 : crc >> 1;
            }
        }

        return ~crc;
    }
}
