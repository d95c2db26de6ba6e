using System.Buffers.Binary;
using System.Diagnostics;
using KvNode.Storage.Snapshots;
using KvNode.Testing;
using Xunit;

namespace KvNode.Storage.Tests;

public sealed class SnapshotLegacyTests
{
    private static readonly (byte[] Key, byte[] Value)[] Small =
    [
        ("k"u8.ToArray(), []),
        ("ka"u8.ToArray(), "1"u8.ToArray()),
        ("kb"u8.ToArray(), new byte[300]),
    ];

    [Theory]
    [InlineData(1, 0)]
    [InlineData(2, 300)]
    [InlineData(3, 3000)]
    public void RecordsOfTheOriginalsAreRead(int seed, int count)
    {
        var random = new Random(seed);
        var records = new List<(byte[] Key, byte[] Value)>();
        for (var i = 0; i < count; i++)
        {
            var key = new byte[random.Next(20) == 0 ? random.Next(StoreLimits.KeyBytesMax + 2) : random.Next(30)];
            var value = new byte[random.Next(100) == 0 ? random.Next(400_000) : random.Next(100)];
            random.NextBytes(key);
            random.NextBytes(value.AsSpan(0, value.Length / 2));
            records.Add((key, value));
        }

        AssertSame(records, Read(LegacySnapshotFile.Gzip(records)));
    }

    [Fact]
    public void AFileCutAnywhereIsRefused()
    {
        var file = LegacySnapshotFile.Gzip(Small);
        for (var length = 0; length < file.Length; length++)
        {
            AssertRefused(file[..length], $"cut to {length} bytes");
        }
    }

    [Fact]
    public void ALargeFileCutAnywhereNearItsEndIsRefused()
    {
        var value = new byte[200_000];
        new Random(4).NextBytes(value);
        var file = LegacySnapshotFile.Gzip([("ka"u8.ToArray(), value)]);
        for (var length = file.Length - 200; length < file.Length; length++)
        {
            AssertRefused(file[..length], $"cut to {length} of {file.Length} bytes");
        }
    }

    [Fact]
    public void ContentCutInsideARecordIsRefused()
    {
        var content = LegacySnapshotFile.Content(Small);
        var boundaries = new HashSet<int>();
        for (var count = 0; count <= Small.Length; count++)
        {
            _ = boundaries.Add(LegacySnapshotFile.Content(Small.Take(count)).Length);
        }

        for (var length = 0; length < content.Length; length++)
        {
            // At a boundary it is a shorter file, which only the gzip around it can tell.
            if (!boundaries.Contains(length))
            {
                AssertRefused(LegacySnapshotFile.GzipOf(content[..length]), $"content cut to {length} bytes");
            }
        }
    }

    [Fact]
    public void NoFlippedBitChangesWhatIsRead()
    {
        var file = LegacySnapshotFile.Gzip(Small);
        var refused = 0;
        for (var bit = 0; bit < file.Length * 8; bit++)
        {
            var copy = file.ToArray();
            copy[bit / 8] ^= (byte)(1 << (bit % 8));
            try
            {
                // Some bits mean nothing to the content: time, level and system in gzip's header, the padding behind
                // the last deflate bit, the distance of a match within a run.
                AssertSame(Small, Read(copy));
            }
            catch (SnapshotFormatException)
            {
                refused++;
            }
        }

        Assert.InRange(refused, (file.Length - 10) * 8, file.Length * 8);
    }

    [Fact]
    public void BytesAfterTheMemberAreRefused()
    {
        foreach (var value in new[] { 0, 10, 100_000 })
        {
            var noise = new byte[value];
            new Random(value).NextBytes(noise);
            var file = LegacySnapshotFile.Gzip([.. Small, ("kc"u8.ToArray(), noise)]);
            for (var extra = 1; extra < 70; extra++)
            {
                AssertRefused([.. file, .. new byte[extra]], $"{extra} bytes more");
            }

            AssertRefused([.. file, .. file[^8..]], "the trailer twice");
            AssertRefused([.. file, .. file], "the member twice");
            AssertRefused([.. file, .. LegacySnapshotFile.GzipOf([])], "an empty member behind");
        }
    }

    [Fact]
    public void HeadersWithNamesAndExtrasAreRead()
    {
        var file = LegacySnapshotFile.Gzip(Small);
        byte[] front =
            [.. file[..3], 4 | 8 | 16 | 2, .. file[4..10], 3, 0, 1, 2, 3, .. "state.bin\0"u8, .. "note\0"u8, 9, 9];
        AssertSame(Small, Read([.. front, .. file[10..]]));
        for (var length = 0; length < front.Length; length++)
        {
            AssertRefused(front[..length], $"header cut to {length}");
        }
    }

    [Fact]
    public void SnapshotsOfUhahaAreRefusedByName()
    {
        byte[] content = [.. "SNAP0001"u8, .. new byte[24], .. "anything"u8];
        Assert.Contains("uhaha", AssertRefused(LegacySnapshotFile.GzipOf(content), "uhaha"));
    }

    [Theory]
    [InlineData(65_538ul, 0ul, "key of 65538")]
    [InlineData(ulong.MaxValue, 0ul, "key of 18446744073709551615")]
    [InlineData(0ul, StoreLimits.ValueBytesMax + 1ul, "value of 536870913")]
    [InlineData(0ul, 1ul << 63, "value of 9223372036854775808")]
    public void LengthsOverTheLimitsAreRefusedAtSight(ulong keyLength, ulong valueLength, string message)
    {
        var content = new byte[16];
        BinaryPrimitives.WriteUInt64LittleEndian(content, keyLength);
        BinaryPrimitives.WriteUInt64LittleEndian(content.AsSpan(8), valueLength);
        Assert.Contains(message, AssertRefused(LegacySnapshotFile.GzipOf(content), message));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void DamagedFilesAreRefusedOrReadAsWhatTheyAre(int seed)
    {
        var random = new Random(seed);
        var content = LegacySnapshotFile.Content(Small);
        var file = LegacySnapshotFile.GzipOf(content);
        var clock = Stopwatch.StartNew();
        for (var round = 0; round < 300 || clock.ElapsedMilliseconds < 1000; round++)
        {
            var inner = random.Next(2) == 0;
            var damagedContent = inner ? Mutation.Of(random, content) : content;
            var damaged = inner ? LegacySnapshotFile.GzipOf(damagedContent) : Mutation.Of(random, file);
            var before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                var records = Read(damaged);
                Assert.True(
                    LegacySnapshotFile.Content(records).AsSpan().SequenceEqual(damagedContent),
                    $"seed {seed} round {round}: read as something else");
                continue;
            }
            catch (SnapshotFormatException)
            {
                // As it should be.
            }

            var allocated = GC.GetAllocatedBytesForCurrentThread() - before;
            Assert.True(
                allocated < (1 << 20) + (64 * damaged.Length),
                $"seed {seed} round {round}: {allocated} bytes allocated");
        }
    }

    private static List<(byte[] Key, byte[] Value)> Read(byte[] file)
    {
        using var reader = new LegacySnapshotReader(new MemoryStream(file));
        var records = new List<(byte[] Key, byte[] Value)>();
        var piece = new byte[10_000];
        while (reader.MoveNext())
        {
            using var value = new MemoryStream();
            int count;
            while ((count = reader.ReadValue(piece)) > 0)
            {
                value.Write(piece, 0, count);
            }

            Assert.Equal(reader.ValueLength, value.Length);
            records.Add((reader.Key.ToArray(), value.ToArray()));
        }

        Assert.False(reader.MoveNext());
        return records;
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

    private static void AssertSame(
        IReadOnlyList<(byte[] Key, byte[] Value)> expected, List<(byte[] Key, byte[] Value)> actual)
    {
        Assert.Equal(expected.Count, actual.Count);
        for (var i = 0; i < expected.Count; i++)
        {
            Assert.True(expected[i].Key.AsSpan().SequenceEqual(actual[i].Key), $"key {i}");
            Assert.True(expected[i].Value.AsSpan().SequenceEqual(actual[i].Value), $"value {i}");
        }
    }
}
