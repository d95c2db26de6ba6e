using System.Buffers.Binary;
using System.Diagnostics;
using KvNode.Storage.Snapshots;
using KvNode.Testing;
using Xunit;
using static KvNode.Storage.Tests.SnapshotSupport;

namespace KvNode.Storage.Tests;

public sealed class SnapshotCorruptionTests
{
    private static readonly SnapshotRecord[] Small =
    [
        new("a"u8.ToArray(), "1"u8.ToArray()),
        new("bb"u8.ToArray(), new byte[300]),
        new("c"u8.ToArray(), []),
    ];

    [Fact]
    public void AFileCutAnywhereIsRefused()
    {
        var file = Write(Small);
        for (var length = 0; length < file.Length; length++)
        {
            AssertRefused(file[..length], $"cut to {length} bytes");
        }
    }

    [Fact]
    public void ContentCutAnywhereIsRefusedAlsoInsideAWholeFrame()
    {
        var content = Decompress(Write(Small));
        for (var length = 0; length < content.Length; length++)
        {
            AssertRefused(Compress(content.AsSpan(0, length)), $"content cut to {length} bytes");
        }
    }

    [Fact]
    public void EveryFlippedBitOfTheFileIsNoticed()
    {
        var file = Write(Small);
        for (var bit = 0; bit < file.Length * 8; bit++)
        {
            AssertRefused(Flipped(file, bit), $"bit {bit}");
        }
    }

    [Fact]
    public void EveryFlippedBitOfTheContentIsNoticedAlsoInsideAWholeFrame()
    {
        var content = Decompress(Write(Small));
        for (var bit = 0; bit < content.Length * 8; bit++)
        {
            AssertRefused(Compress(Flipped(content, bit)), $"content bit {bit}");
        }
    }

    [Fact]
    public void BytesAfterTheEndAreRefused()
    {
        var file = Write(Small);
        AssertRefused([.. file, 0], "a byte more");
        AssertRefused([.. file, .. file], "the file twice");
        AssertRefused([.. file, 0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0], "a skippable frame behind");
        AssertRefused(Compress([.. Decompress(file), 0]), "a byte more inside");
    }

    [Fact]
    public void OtherFilesAreRefused()
    {
        AssertRefused([], "empty");
        AssertRefused([0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0], "a skippable frame");
        AssertRefused([0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0, .. Write(Small)], "a skippable frame in front");
        AssertRefused(Compress([]), "an empty frame");
        AssertRefused(Compress("hello, world, this is not a snapshot at all"u8), "another content");
    }

    [Theory]
    [InlineData(8, 2u, "format 2")]
    [InlineData(8, 0u, "format 0")]
    [InlineData(12, 67u, "length 67")]
    [InlineData(12, 65_537u, "length 65537")]
    [InlineData(12, uint.MaxValue, "length 4294967295")]
    public void HeadersOfAnotherVersionOrLengthAreRefusedByName(int offset, uint value, string message)
    {
        var content = Decompress(Write(Small));
        BinaryPrimitives.WriteUInt32LittleEndian(content.AsSpan(offset), value);
        Assert.Contains(message, AssertRefused(Compress(content), message));
    }

    [Theory]
    [InlineData(48, 1u, "newer")]
    [InlineData(60, 1u, "newer")]
    [InlineData(64, 3u, "section 3")]
    [InlineData(68, 0xFFFF_FFFFu, "longer than the header")]
    [InlineData(44, 0x8000_0000u, "impossible count")]
    public void HeaderFieldsThatAreNotUnderstoodAreRefusedAlsoWithARightChecksum(int offset, uint value, string message)
    {
        var content = Decompress(Write(Small));
        BinaryPrimitives.WriteUInt32LittleEndian(content.AsSpan(offset), value);
        FixChecksums(content);
        Assert.Contains(message, AssertRefused(Compress(content), message));
    }

    [Fact]
    public void CountsThatDisagreeAreRefusedAlsoWithARightChecksum()
    {
        var content = Decompress(Write(Small));
        BinaryPrimitives.WriteUInt64LittleEndian(content.AsSpan(40), 4);
        FixChecksums(content);
        Assert.Contains("3 records", AssertRefused(Compress(content), "header count"));

        content = Decompress(Write(Small));
        BinaryPrimitives.WriteUInt64LittleEndian(content.AsSpan(content.Length - 12), 4);
        FixChecksums(content);
        Assert.Contains("footer 4", AssertRefused(Compress(content), "footer count"));
    }

    [Theory]
    [InlineData("b", "a")]
    [InlineData("a", "a")]
    public void KeysOutOfOrderAreRefusedAlsoWithARightChecksum(string first, string second)
    {
        byte[] records = [.. Record(first, 1), .. Record(second, 1)];
        Assert.Contains("out of order", AssertRefused(Compress(Content(2, records)), "order"));
    }

    [Theory]
    [InlineData(StoreLimits.KeyBytesMax + 1u, 1u, "key of 65537")]
    [InlineData(0xFFFF_FFFEu, 1u, "key of 4294967294")]
    [InlineData(1u, 0u, "value of 0")]
    [InlineData(1u, StoreLimits.ValueBytesMax + 2u, "value of 536870913")]
    [InlineData(1u, StoreLimits.ValueBytesMax + 65u, "value of 536870977")]
    [InlineData(1u, uint.MaxValue, "value of 4294967295")]
    public void LengthsOverTheLimitsAreRefusedAtSight(uint keyLength, uint valueLength, string message)
    {
        var record = new byte[4 + 1 + 4 + 1];
        BinaryPrimitives.WriteUInt32LittleEndian(record, keyLength);
        BinaryPrimitives.WriteUInt32LittleEndian(record.AsSpan(5), valueLength);
        Assert.Contains(message, AssertRefused(Compress(Content(1, record)), message));
    }

    [Fact]
    public void ABombCostsTimeButNoMemory()
    {
        // A value that claims, and a frame that delivers, far more than the file's size.
        byte[] head = [1, 0, 0, 0, (byte)'a', 0, 0, 0, 0x10, 0];
        var bomb = Compress([.. Content(1, head)[..^16], .. new byte[64 << 20]]);
        Assert.InRange(bomb.Length, 1, 1 << 20);
        var before = GC.GetAllocatedBytesForCurrentThread();
        using (var reader = new SnapshotReader(new MemoryStream(bomb)))
        {
            Assert.True(reader.MoveNext());
            Assert.Contains("truncated", Assert.Throws<SnapshotFormatException>(() => reader.MoveNext()).Message);
        }

        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 2 << 20);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void DamagedFilesAreRefusedOrReadAsWhatTheyAre(int seed)
    {
        var random = new Random(seed);
        var records =
            RandomRecords(random, 12).Where(record => record.Value.Length < 1000 && record.Key.Length < 1000).ToList();
        var header = HeaderFor(records.Count);
        var file = Write(records, header);
        var content = Decompress(file);
        var clock = Stopwatch.StartNew();
        for (var round = 0; round < 300 || clock.ElapsedMilliseconds < 1000; round++)
        {
            var kind = random.Next(3);
            var damagedContent = kind == 0 ? content : Mutation.Of(random, content);
            if (kind == 2)
            {
                FixChecksums(damagedContent);
            }

            var damaged = kind == 0 ? Mutation.Of(random, file) : Compress(damagedContent);
            CheckDamaged(damaged, kind == 2 ? damagedContent : content, $"seed {seed} round {round}");
        }
    }

    /// <summary>Refused with the declared exception, or read as exactly the content it holds; memory bounded either
    /// way.</summary>
    private static void CheckDamaged(byte[] damaged, byte[] content, string context)
    {
        var before = GC.GetAllocatedBytesForCurrentThread();
        try
        {
            var (header, records) = Read(damaged);
            var same = Decompress(Write(records, header)).AsSpan().SequenceEqual(content);
            Assert.True(same, $"{context}: read as something else");
            return;
        }
        catch (SnapshotFormatException)
        {
            // As it should be.
        }

        var allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.True(allocated < (1 << 20) + (64 * damaged.Length), $"{context}: {allocated} bytes allocated");
    }

    private static string AssertRefused(byte[] file, string context)
    {
        try
        {
            _ = Read(file);
        }
        catch (SnapshotFormatException e)
        {
            return e.Message;
        }

        Assert.Fail($"{context}: was read without complaint");
        return "";
    }

    private static byte[] Flipped(byte[] bytes, int bit)
    {
        var copy = bytes.ToArray();
        copy[bit / 8] ^= (byte)(1 << (bit % 8));
        return copy;
    }

    /// <summary>A whole content around given record bytes.</summary>
    private static byte[] Content(int count, byte[] records)
    {
        var footer = new byte[16];
        BinaryPrimitives.WriteUInt32LittleEndian(footer, uint.MaxValue);
        BinaryPrimitives.WriteUInt64LittleEndian(footer.AsSpan(4), (ulong)count);
        byte[] content = [.. SnapshotFormat.EncodeHeader(HeaderFor(count)), .. records, .. footer];
        FixChecksums(content);
        return content;
    }

    private static byte[] Record(string key, byte value) =>
        [(byte)key.Length, 0, 0, 0, .. System.Text.Encoding.ASCII.GetBytes(key), 2, 0, 0, 0, 0, value];

    /// <summary>Makes both checksums right, as far as the header says where they are.</summary>
    private static void FixChecksums(byte[] content)
    {
        var header = content.Length < 16 ? 0 : BinaryPrimitives.ReadUInt32LittleEndian(content.AsSpan(12));
        if (header >= 68 && header + 16 <= content.Length)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(
                content.AsSpan((int)header - 4), Crc32C.Of(content.AsSpan(0, (int)header - 4)));
            BinaryPrimitives.WriteUInt32LittleEndian(
                content.AsSpan(content.Length - 4), Crc32C.Of(content.AsSpan(0, content.Length - 4)));
        }
    }
}
