using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

public sealed class WalFormatTests
{
    [Fact]
    public void NumbersOnDiskNeverChange()
    {
        Assert.Equal(1, (int)RecordKind.Entry);
        Assert.Equal(2, (int)RecordKind.HardState);
        Assert.Equal(3, (int)RecordKind.Truncate);
        Assert.Equal(4, (int)RecordKind.SnapshotMarker);
        Assert.Equal(1, (int)EntryKind.Normal);
        Assert.Equal(2, (int)EntryKind.Empty);
        Assert.Equal(3, (int)EntryKind.Configuration);
        Assert.Equal("0000000000000a1b.wal", WalFormat.SegmentName(0xa1b));
        Assert.Equal("KVNODWAL"u8, BitConverter.GetBytes(WalFormat.SegmentMagic));
        Assert.Equal("KVFR"u8, BitConverter.GetBytes(WalFormat.FrameMagic));
        Assert.Equal("END!"u8, BitConverter.GetBytes(WalFormat.EndMark));
    }

    [Fact]
    public void ChecksumsAreCrc32C()
    {
        // RFC 3720 B.4.
        Assert.Equal(0x8A91_36AAu, Crc32C.Compute(new byte[32]));
        Assert.Equal(0x62A8_AB43u, Crc32C.Compute(Enumerable.Repeat((byte)0xFF, 32).ToArray()));
        Assert.Equal(0x46DD_794Eu, Crc32C.Compute(Enumerable.Range(0, 32).Select(i => (byte)i).ToArray()));
        Assert.Equal(0xE306_9283u, Crc32C.Compute("123456789"u8));
    }

    [Fact]
    public void SectorChecksumsAreThoseOfEachSectorAlone()
    {
        var random = new Random(1);
        for (var count = 0; count < 14; count++)
        {
            var sectors = new byte[count * 512];
            random.NextBytes(sectors);
            var crcs = new uint[count];
            Crc32C.ComputeSectors(sectors, crcs);
            for (var i = 0; i < count; i++)
            {
                Assert.Equal(Crc32C.Compute(sectors.AsSpan(i * 512, 512)), crcs[i]);
            }
        }
    }

    /// <summary>PERSISTED: a change here needs a new format version and a reader for this one.</summary>
    [Fact]
    public void TheFirstKilobyteOfALogIsAsItAlwaysWas()
    {
        var disk = new SimDisk();
        using (var log = WriteAheadLog.Open(disk, WalRig.SmallSegments, newLogId: 0x1122_3344_5566_7788))
        {
            log.Append(
            [
                WalRecord.Of(new HardState(3, 1)),
                WalRecord.Entry(new EntryId(3, 1), EntryKind.Normal, "hello"u8.ToArray()),
            ]);
        }

        var content = disk.Raw(WalFormat.SegmentName(1));
        Assert.Equal(
            "4B564E4F4457414C" + "01000000" + "00000000" + "8877665544332211" + "0100000000000000" + "0100000000000000"
            + "0000000000000000" + "0000000000000000" + "0000000000000000" + "0000000000000000",
            Convert.ToHexString(content.AsSpan(0, 72)));
        Assert.Equal(new string('0', 2 * 436), Convert.ToHexString(content.AsSpan(72, 436)));
        Assert.Equal(
            "4B564652" + "01000000" + "8877665544332211" + "0100000000000000" + "0100000000000000" + "0000000000000000"
            + "0000000000000000" + "00000000" + "39000000" + "02000000",
            Convert.ToHexString(content.AsSpan(512, 60)));
        Assert.Equal("01000000", Convert.ToHexString(content.AsSpan(512 + 64, 4)));
        Assert.Equal(
            "02000000" + "00000000" + "0100000000000000" + "0300000000000000"
            + "01010000" + "05000000" + "0100000000000000" + "0300000000000000" + "68656C6C6F" + "454E4421",
            Convert.ToHexString(content.AsSpan(512 + 72, 57)));
        Assert.Equal(new string('0', 2 * 383), Convert.ToHexString(content.AsSpan(512 + 72 + 57, 383)));
        Assert.Equal(
            "42F8BEB0" + "E02C1E5E" + "AEFB9603",
            Convert.ToHexString(content.AsSpan(508, 4))
            + Convert.ToHexString(content.AsSpan(512 + 60, 4))
            + Convert.ToHexString(content.AsSpan(512 + 68, 4)));
    }

    [Fact]
    public void ALayoutHasRoomForEverySectorsChecksumAndIsNeverLargerThanNeeded()
    {
        var sizes = Enumerable.Range(4, 200_000).Append(WalFormat.FramePayloadBytesMax).Append(WalFormat.EntryBytesMax);
        foreach (var payload in sizes)
        {
            var layout = FrameLayout.For(payload);
            Assert.True(layout.BodySectors <= layout.TableEntries);
            Assert.True(layout.TableEntries - layout.BodySectors <= 1);
            var end = (long)layout.PayloadOffset + payload;
            Assert.InRange((layout.Sectors * 512L) - end, 0, 511);
            Assert.InRange((layout.HeadSectors * 512) - layout.PayloadOffset, 0, 511);
        }
    }

    [Fact]
    public void AFrameGivesBackItsRecords()
    {
        for (var seed = 0; seed < 400; seed++)
        {
            var random = new Random(seed);
            var records = new WalRecord[random.Next(1, 20)];
            for (var i = 0; i < records.Length; i++)
            {
                records[i] = random.Next(4) == 0
                    ? WalRecord.Of(new HardState((ulong)random.NextInt64(), (ulong)random.NextInt64()))
                    : WalRecord.Entry(
                        new EntryId((ulong)random.NextInt64(), (ulong)random.NextInt64()),
                        (EntryKind)random.Next(1, 4),
                        WalRig.RandomPayload(random));
            }

            var (frame, header) = Encode(records);
            AssertSectorsAreDense(frame, header.PayloadBytes);
            var payload = frame.AsMemory(FrameLayout.For(header.PayloadBytes).PayloadOffset, header.PayloadBytes);
            FrameEncoder.ApplyMask(payload.Span, header.Mask);
            ReadOnlyMemory<byte> rest = payload;
            foreach (var record in records)
            {
                Assert.True(WalRecord.TryDecode(ref rest, out var decoded));
                Assert.Equal((record.Kind, record.EntryKind, record.Id), (decoded.Kind, decoded.EntryKind, decoded.Id));
                Assert.True(record.Payload.Span.SequenceEqual(decoded.Payload.Span));
            }

            Assert.Equal("END!"u8, rest.Span);
        }
    }

    [Fact]
    public void OnlyAPayloadWithALoneBitInASectorIsMasked()
    {
        Assert.Equal(0UL, Encode([WalRecord.Entry(new EntryId(1, 1), EntryKind.Normal, new byte[3000])]).Header.Mask);
        var lone = new byte[3000];
        lone[1500] = 4;
        Assert.NotEqual(0UL, Encode([WalRecord.Entry(new EntryId(1, 1), EntryKind.Normal, lone)]).Header.Mask);
    }

    [Fact]
    public void ARecordCutAnywhereOrWithStrangeFieldsIsNoRecord()
    {
        var bytes = new byte[WalRecord.HeaderBytes + 7];
        Assert.Equal(bytes.Length, WalRecord.Entry(new EntryId(1, 1), EntryKind.Normal, new byte[7]).Encode(bytes));
        for (var length = 0; length < bytes.Length; length++)
        {
            ReadOnlyMemory<byte> cut = bytes.AsMemory(0, length);
            Assert.False(WalRecord.TryDecode(ref cut, out _));
        }

        (int, byte)[] changes = [(0, 0), (0, 9), (1, 0), (1, 4), (2, 1), (3, 1), (4, 8), (7, 0x80)];
        foreach (var (at, value) in changes)
        {
            var strange = bytes.ToArray();
            strange[at] = value;
            ReadOnlyMemory<byte> source = strange;
            Assert.False(WalRecord.TryDecode(ref source, out _));
        }
    }

    [Theory]
    [InlineData("0000000000000001.wal", true)]
    [InlineData("0000000000000A01.wal", false)]
    [InlineData("000000000000001.wal", false)]
    [InlineData("0000000000000001.wal.tmp", false)]
    [InlineData("+000000000000001.wal", false)]
    [InlineData("0000000000000001.spare", false)]
    public void OnlyExactNamesAreSegments(string name, bool expected) =>
        Assert.Equal(expected, WalFormat.TryParseName(name, WalFormat.SegmentSuffix, out _));

    private static (byte[] Frame, FrameHeader Header) Encode(WalRecord[] records)
    {
        var payload = (int)FrameEncoder.PayloadBytes(records);
        var layout = FrameLayout.For(payload);
        var frame = new byte[layout.Bytes];
        new Random(1).NextBytes(frame);
        var crc = FrameEncoder.Encode(
            new FrameHeader(1, 2, 3, 2, 0, 4, payload, records.Length, 0, 5), layout, records, frame);
        Assert.True(FrameHeader.TryDecode(frame, out var header, out var read));
        Assert.Equal(crc, read);
        return (frame, header);
    }

    private static void AssertSectorsAreDense(byte[] frame, int payloadBytes)
    {
        var layout = FrameLayout.For(payloadBytes);
        for (var i = 0; i < layout.Sectors; i++)
        {
            var bits = frame.AsSpan(i * 512, 512).ToArray().Sum(single => int.PopCount(single));
            Assert.NotEqual(1, bits);
            Assert.True(bits > 0 || (i >= layout.HeadSectors && i < layout.Sectors - 1));
        }
    }
}
