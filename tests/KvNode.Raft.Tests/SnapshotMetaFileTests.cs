using System.Diagnostics;
using System.Text;
using FsCheck;
using FsCheck.Fluent;
using KvNode.Raft.Snapshots;
using KvNode.Testing;
using Xunit;
using static KvNode.Raft.Tests.SnapshotSupport;

namespace KvNode.Raft.Tests;

public sealed class SnapshotMetaFileTests
{
    /// <summary>What the original writes: six fields, peers as MessagePack, CRC big-endian.</summary>
    private const string Original =
        """{"ID":"2-10-1489000000000","Index":10,"Term":2,"Peers":"ka4xMjcuMC4wLjE6NDkyMA==","Size":25,""" +
        """ "CRC":"mV3Ju98ZOfo="} """;

    [Fact]
    public void OursIsWrittenInExactlyThisWay()
    {
        // Quotes stand as apostrophes here; the CRC was computed by another program.
        const string Expected =
            "{'ID':'7-1234-1700000000123','Index':1234,'Term':7,"
            + "'Peers':'kq0xMC4wLjAuMTo0OTIwuW5vZGUtdHdvLmV4YW1wbGUub3JnOjQ5MjA=',"
            + "'Size':987654321,'CRC':'mV3Ju98ZOfo=','Format':1,'Count':1000000,"
            + "'Members':['10.0.0.1:4920','node-two.example.org:4920'],'MetaCRC':'Imv3MIbmx6s='}\n";
        Assert.Equal(Expected.Replace('\'', '"'), Encoding.UTF8.GetString(SnapshotMetaFile.Encode(SampleInfo())));
    }

    [Fact]
    public void OursIsReadAsWritten() =>
        AssertSame(SampleInfo(), SnapshotMetaFile.Decode(SnapshotMetaFile.Encode(SampleInfo())));

    [Theory]
    [InlineData(Original)]
    [InlineData(Original + "\n")]
    [InlineData("""
        { "CRC": "mV3Ju98ZOfo=", "Size": 25, "Peers": "ka4xMjcuMC4wLjE6NDkyMA==",
          "Term": 2, "Index": 10, "ID": "2-10-1489000000000" }
        """)]
    public void TheOriginalsIsRead(string text)
    {
        var info = SnapshotMetaFile.Decode(Encoding.UTF8.GetBytes(text));
        Assert.Equal("2-10-1489000000000", info.Id);
        Assert.Equal(new EntryId(2, 10), info.Position);
        Assert.Equal(25, info.Size);
        Assert.Equal(0x995DC9BBDF1939FA, info.Crc);
        Assert.Equal(["127.0.0.1:4920"], info.Members);
        Assert.Equal(0, info.Format);
        Assert.Null(info.Count);
    }

    [Theory]
    [InlineData("")]
    [InlineData("{}")]
    [InlineData("[]")]
    [InlineData("null")]
    [InlineData("""{"ID":"2-10-1489000000000","Index":10,"Term":2,"Peers":"kA==","Size":0,"CRC":null}""")]
    [InlineData("""{"ID":"2-10-1489000000000","Index":10,"Term":2,"Peers":"kA==","Size":-1,"CRC":"mV3Ju98ZOfo="}""")]
    [InlineData("""{"ID":"2-10-1489000000000","Index":11,"Term":2,"Peers":"kA==","Size":0,"CRC":"mV3Ju98ZOfo="}""")]
    [InlineData("""{"ID":"2-10-1489000000000","Index":10,"Term":3,"Peers":"kA==","Size":0,"CRC":"mV3Ju98ZOfo="}""")]
    [InlineData("""{"ID":"../../../etc","Index":10,"Term":2,"Peers":"kA==","Size":0,"CRC":"mV3Ju98ZOfo="}""")]
    [InlineData("""{"ID":"2-10-1","Index":10,"Term":2,"Peers":"kQ==","Size":0,"CRC":"mV3Ju98ZOfo="}""")]
    [InlineData("""{"ID":"2-10-1","Index":10,"Term":2,"Peers":"kA==","Size":0,"CRC":"mV3Ju98ZOQ=="}""")]
    [InlineData("""{"ID":"2-10-1","Index":10,"Term":2,"Peers":"kA==","Size":0,"CRC":"mV3Ju98ZOfo=","Else":1}""")]
    [InlineData("""{"ID":"2-10-1","ID":"2-10-1","Index":10,"Term":2,"Peers":"kA==","Size":0,"CRC":"mV3Ju98ZOfo="}""")]
    [InlineData("""{"ID":"2-10-1","Index":10,"Term":2,"Peers":"kA==","Size":0,"CRC":"mV3Ju98ZOfo=","Format":1}""")]
    [InlineData("""{"ID":"2-10-1","Index":1e1,"Term":2,"Peers":"kA==","Size":0,"CRC":"mV3Ju98ZOfo="}""")]
    [InlineData("""{"ID":"2-10-1","Index":10,"Term":2,"Peers":"kA==","Size":0,"CRC":"mV3Ju98ZOfo="} {}""")]
    public void AnythingElseIsRefused(string text) =>
        Assert.Throws<SnapshotInvalidException>(() => SnapshotMetaFile.Decode(Encoding.UTF8.GetBytes(text)));

    [Fact]
    public void AnUnknownFormatIsRefusedByName()
    {
        var text =
            Encoding.UTF8.GetString(SnapshotMetaFile.Encode(SampleInfo())).Replace("\"Format\":1", "\"Format\":2");
        var refusal =
            Assert.Throws<SnapshotInvalidException>(() => SnapshotMetaFile.Decode(Encoding.UTF8.GetBytes(text)));
        Assert.Contains("format 2", refusal.Message);
    }

    [Fact]
    public void EveryFlippedBitIsNoticed()
    {
        var bytes = SnapshotMetaFile.Encode(SampleInfo());
        for (var bit = 0; bit < bytes.Length * 8; bit++)
        {
            var copy = bytes.ToArray();
            copy[bit / 8] ^= (byte)(1 << (bit % 8));
            AssertRefused(copy, $"bit {bit}");
        }
    }

    [Fact]
    public void AFileCutAnywhereIsRefused()
    {
        var bytes = SnapshotMetaFile.Encode(SampleInfo());
        for (var length = 0; length < bytes.Length; length++)
        {
            AssertRefused(bytes[..length], $"cut to {length}");
        }
    }

    [Fact]
    public void DamagedFilesAreRefusedWithoutGreatCost()
    {
        const int Seed = 9;
        var random = new Random(Seed);
        var ours = SnapshotMetaFile.Encode(SampleInfo());
        var original = Encoding.UTF8.GetBytes(Original);
        var clock = Stopwatch.StartNew();
        for (var round = 0; round < 500 || clock.ElapsedMilliseconds < 1500; round++)
        {
            var isOurs = random.Next(2) == 0;
            var damaged = Mutation.Of(random, isOurs ? ours : original);
            var before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                var info = SnapshotMetaFile.Decode(damaged);

                // The original's has no checksum of its own; ours may only be itself.
                Assert.True(info.Format == 0 || damaged.AsSpan().SequenceEqual(ours), $"seed {Seed} round {round}");
            }
            catch (SnapshotInvalidException)
            {
                // As it should be.
            }

            var allocated = GC.GetAllocatedBytesForCurrentThread() - before;
            Assert.True(allocated < 64 * 1024, $"seed {Seed} round {round}: {allocated} bytes allocated");
        }
    }

    [Fact]
    public void AnyInfoRoundTrips()
    {
        var property =
            Prop.ForAll<(ulong Term, ulong Index), (uint Ms, ulong Crc), string[]>((position, numbers, names) =>
        {
            // Lone surrogates are no text; everything else may stand in an address.
            var members = names.Select(name => Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(name ?? ""))).ToList();
            var info = SampleInfo() with
            {
                Id = $"{position.Term}-{position.Index}-{numbers.Ms}",
                Position = new EntryId(position.Term, position.Index),
                UnixMs = numbers.Ms,
                Crc = numbers.Crc,
                Members = members,
            };
            var read = SnapshotMetaFile.Decode(SnapshotMetaFile.Encode(info));
            return read.Members.SequenceEqual(members) && read with { Members = members } == info;
        });

        property.Check(Config.QuickThrowOnFailure.WithMaxTest(500).WithReplay(20_260_102, 17));
    }

    [Theory]
    [InlineData("90")]
    [InlineData("91A161", "a")]
    [InlineData("92A0A162", "", "b")]
    [InlineData("91D90161", "a")]
    [InlineData("91DA000161", "a")]
    [InlineData("91DB0000000161", "a")]
    [InlineData("91C40161", "a")]
    [InlineData("DC0001A161", "a")]
    [InlineData("DD00000001A161", "a")]
    public void PeersAreReadInEverySpelling(string hex, params string[] expected)
    {
        Assert.True(RawStringArray.TryDecode(Convert.FromHexString(hex), out var values));
        Assert.Equal(expected, values);
    }

    [Theory]
    [InlineData("")]
    [InlineData("91")]
    [InlineData("90A0")]
    [InlineData("91A2")]
    [InlineData("9101")]
    [InlineData("A161")]
    [InlineData("DDFFFFFFFF")]
    [InlineData("91DBFFFFFFFF61")]
    [InlineData("91A1FF")]
    public void OtherPeersAreRefused(string hex) =>
        Assert.False(RawStringArray.TryDecode(Convert.FromHexString(hex), out _));

    [Theory]
    [InlineData(0)]
    [InlineData(15)]
    [InlineData(16)]
    [InlineData(70_000)]
    public void PeersOfAnyNumberAndLengthRoundTrip(int count)
    {
        var values = Enumerable.Range(0, count).Select(i => new string('x', i % 70)).ToList();
        values.AddRange([new string('y', 31), new string('y', 32), new string('y', 255), new string('y', 70_000)]);
        Assert.True(RawStringArray.TryDecode(RawStringArray.Encode(values), out var read));
        Assert.Equal(values, read);
    }

    private static void AssertRefused(byte[] bytes, string context)
    {
        try
        {
            _ = SnapshotMetaFile.Decode(bytes);
        }
        catch (SnapshotInvalidException)
        {
            return;
        }

        Assert.Fail($"{context}: was read without complaint");
    }
}
