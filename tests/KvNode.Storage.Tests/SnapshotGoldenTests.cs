using System.Text;
using KvNode.Storage.Snapshots;
using Xunit;
using static KvNode.Storage.Tests.SnapshotSupport;

namespace KvNode.Storage.Tests;

/// <summary>The numbers on disk. When one of these fails, old backups can no longer be read: do not change the
/// test.</summary>
public sealed class SnapshotGoldenTests
{
    /// <summary>The content of a snapshot of two records, field by field.</summary>
    private const string Content =
        "4B564E5354415445" + // magic
        "01000000" + // version
        "5D000000" + // header length 93
        "0807060504030201" + // index
        "0200000000000000" + // term
        "E803000000000000" + // clock 1000
        "0200000000000000" + // count
        "00000000000000000000000000000000" + // reserved
        "01000000" + "11000000" + // section: members, 17 bytes
        "0600" + "613A34393230" + // a:4920
        "0700" + "62623A34393230" + // bb:4920
        "D1FD5A2E" + // header CRC-32C
        "00000000" + "01000000" + "00" + // empty key, empty string
        "02000000" + "6B31" + "04000000" + "00" + "767631" + // k1 = vv1
        "FFFFFFFF" + "0200000000000000" + "25AFA131"; // footer

    private static readonly SnapshotHeader Header = new(0x0102030405060708, 2, 1000, 2, ["a:4920", "bb:4920"]);

    private static readonly SnapshotRecord[] Records = [new([], []), new("k1"u8.ToArray(), "vv1"u8.ToArray())];

    [Fact]
    public void TheContentIsWrittenAsDescribed()
    {
        var content = Decompress(Write(Records, Header));
        Assert.Equal(Content, Convert.ToHexString(content));
    }

    [Fact]
    public void EngineStateIsTheSecondSection()
    {
        var header = Header with { Count = 0, Members = ["a:1"], EngineState = new byte[] { 0xE0, 0xE1, 0xE2 } };
        var content = Decompress(Write([], header));
        Assert.Equal(
            "4B564E5354415445" + "01000000" + // magic, version
            "5C000000" + // header length 92
            "0807060504030201" + "0200000000000000" + "E803000000000000" + // index, term, clock
            "0000000000000000" + "00000000000000000000000000000000" + // count, reserved
            "01000000" + "05000000" + "0300613A31" + // section: members
            "02000000" + "03000000" + "E0E1E2" + // section: engine state
            Convert.ToHexString(BitConverter.GetBytes(Crc32C.Of(content.AsSpan(0, 88)))),
            Convert.ToHexString(content.AsSpan(0, 92)));

        var (read, _) = Read(Write([], header));
        Assert.Equal([0xE0, 0xE1, 0xE2], read.EngineState.ToArray());
        Assert.Equal(["a:1"], read.Members);
        var alone = Read(Write([], header with { Members = [], EngineState = new byte[StoreLimits.EngineStateBytesMax] }));
        Assert.Equal(StoreLimits.EngineStateBytesMax, alone.Header.EngineState.Length);
        Assert.Throws<ArgumentException>(
            () => Write([], header with { EngineState = new byte[StoreLimits.EngineStateBytesMax + 1] }));
    }

    [Theory]
    [InlineData("0200000000000000", "engine state of 0 bytes")]
    [InlineData("0200000001000000AA0200000001000000AA", "repeated header section 2")]
    [InlineData("0300000001000000AA", "unknown or repeated header section 3")]
    [InlineData("02000000FFFFFFFF", "longer than the header")]
    public void SectionsThatThisProgramDoesNotWriteAreRefused(string sections, string message)
    {
        var content = Decompress(Write([], Header with { Count = 0, Members = [] }));
        byte[] header = [.. content.AsSpan(0, 64), .. Convert.FromHexString(sections), 0, 0, 0, 0];
        BitConverter.TryWriteBytes(header.AsSpan(12), header.Length);
        BitConverter.TryWriteBytes(header.AsSpan(header.Length - 4), Crc32C.Of(header.AsSpan(0, header.Length - 4)));
        var refused = Assert.Throws<SnapshotFormatException>(() => Read(Compress([.. header, .. content.AsSpan(68)])));
        Assert.Contains(message, refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TheCommittedFileIsReadAsWritten()
    {
        var file = File.ReadAllBytes(TestDataPath("snapshot-v1.state.bin"));
        var (header, records) = Read(file);

        Assert.Equal(0x1122334455667788u, header.Index);
        Assert.Equal(9u, header.Term);
        Assert.Equal(1_767_225_600_000, header.ClockMs);
        Assert.Equal(["n1.example:4920", "n2.example:4920", "n3.example:4920"], header.Members);
        AssertSame(GoldenRecords(), records);
    }

    [Fact]
    public void TheCommittedFileHoldsWhatIsWrittenToday()
    {
        var file = File.ReadAllBytes(TestDataPath("snapshot-v1.state.bin"));
        var (header, _) = Read(file);
        Assert.Equal(Decompress(file), Decompress(Write(GoldenRecords(), header)));
    }

    [Fact]
    public void TheFrameIsOfTheAgreedKind()
    {
        // FLG: version 01, blocks independent, block checksums, content checksum. BD: blocks of at most 256 KiB.
        var file = Write(Records, Header);
        Assert.Equal("04224D18" + "74" + "50", Convert.ToHexString(file.AsSpan(0, 6)));
    }

    [Theory]
    [InlineData(ValueTag.String, 0x00)]
    [InlineData(ValueTag.ExpiringString, 0x01)]
    [InlineData(ValueTag.Hash, 0x10)]
    [InlineData(ValueTag.List, 0x11)]
    [InlineData(ValueTag.Set, 0x12)]
    [InlineData(ValueTag.SortedSet, 0x13)]
    public void ValueTagsKeepTheirNumbers(ValueTag tag, byte number)
    {
        var content = Decompress(
            Write([new("a"u8.ToArray(), "b"u8.ToArray(), tag)], Header with { Count = 1, Members = [] }));
        Assert.Equal(number, content[68 + 4 + 1 + 4]);
    }

    [Fact]
    public void ChecksumsAreTheStandardOnes()
    {
        var check = "123456789"u8;
        Assert.Equal(0xE3069283, Crc32C.Of(check));
        Assert.Equal(0xCBF43926, Crc32.Finish(Crc32.Append(Crc32.Start, check)));
    }

    private static List<SnapshotRecord> GoldenRecords()
    {
        var records = new List<SnapshotRecord> { new([], "empty key"u8.ToArray()) };
        for (var i = 0; i < 40; i++)
        {
            records.Add(new SnapshotRecord(
                Encoding.ASCII.GetBytes($"key:{i:D3}"),
                Enumerable.Range(0, i * 3).Select(n => (byte)(n * 7)).ToArray()));
        }

        records.Add(new SnapshotRecord([0xFF, 0x00], [0x01], ValueTag.Hash));
        return records;
    }
}
