using System.Text;
using KvNode.Testing;
using Xunit;

namespace KvNode.Storage.Tests;

public sealed class StoreDigestTests : IDisposable
{
    private readonly DiskTestDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    /// <summary>XXH64's published check values, and its own for each length class of the algorithm.</summary>
    [Theory]
    [InlineData("", 0xEF46DB3751D8E999)]
    [InlineData("a", 0xD24EC4F1A98C6E5B)]
    [InlineData("abc", 0x44BC2CF5AD770999)]
    [InlineData("message digest", 0x066ED728FCEEB3BE)]
    [InlineData("abcdefghijklmnopqrstuvwxyz", 0xCFE1F278FA89835C)]
    [InlineData("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 0xAAA46907D3047814)]
    public void TheHashIsTheStandardOne(string text, ulong expected) =>
        Assert.Equal(expected, Hash64.Of(Encoding.ASCII.GetBytes(text)));

    [Fact]
    public void PiecesDoNotMatter() => Seeds.Run(nameof(PiecesDoNotMatter), random =>
    {
        var bytes = new byte[500];
        random.NextBytes(bytes);
        for (var i = 0; i < 200; i++)
        {
            var length = random.Next(bytes.Length);
            var hash = new Hash64();
            for (var at = 0; at < length;)
            {
                var piece = Math.Min(random.Next(70), length - at);
                hash.Append(bytes.AsSpan(at, piece));
                at += piece;
            }

            Assert.Equal(Hash64.Of(bytes.AsSpan(0, length)), hash.Finish());
        }
    });

    [Fact]
    public void TheDigestIsThatOfTheRecordsInASnapshotFile()
    {
        using var store = NamedState.Open(_directory.Path);
        NamedState.Apply(store, 7);
        var content = SnapshotSupport.Decompress(NamedState.File(7));
        var header = BitConverter.ToInt32(content, 12);
        var digest = store.ComputeDigest(TestContext.Current.CancellationToken);
        Assert.Equal(Hash64.Of(content.AsSpan(header, content.Length - header - 16)), digest.Content);
        Assert.Equal(Hash64.Of(NamedState.Engine(7)), digest.Engine);
        Assert.Equal(
            (7ul, NamedState.Term(7), 7L, (long)NamedState.Count(7)), (digest.Index, digest.Term, digest.ClockMs, digest.Count));
        Assert.Equal("7@1 57 7 4cacd9b2427bd333-3e28091a36ac75c0", digest.ToString());
    }

    [Fact]
    public void LayersAndHistoryDoNotMatterButEveryPartOfTheStateDoes()
    {
        using var store = NamedState.Open(Path.Combine(_directory.Path, "a"));
        NamedState.Apply(store, 7);
        var digest = store.ComputeDigest(TestContext.Current.CancellationToken);
        store.Checkpoint();
        Assert.Equal(digest, store.ComputeDigest(TestContext.Current.CancellationToken));
        using (var installed = NamedState.Open(Path.Combine(_directory.Path, "b")))
        {
            NamedState.Apply(installed, 3);
            NamedState.Install(installed, 7);
            Assert.Equal(digest, installed.ComputeDigest(TestContext.Current.CancellationToken));
        }

        var seen = new HashSet<ulong> { digest.Content };
        Action<WriteView>[] changes =
        [
            w => w.Put("key:000003"u8, "value of 8"u8),
            w => w.Delete("key:000003"u8),
            w => w.Put("key:00000"u8, "3value of 7"u8),
            w => w.Put(""u8, ""u8),
            w => w.Clear(),
        ];
        for (var i = 0; i < changes.Length; i++)
        {
            changes[i](store.BeginBatch());
            store.Publish(8 + (ulong)i, 1, 7, NamedState.Engine(7));
            Assert.True(seen.Add(store.ComputeDigest(TestContext.Current.CancellationToken).Content), $"change {i} was not seen");
        }

        _ = store.BeginBatch();
        store.Publish(20, 1, 7, NamedState.Engine(8));
        Assert.NotEqual(digest.Engine, store.ComputeDigest(TestContext.Current.CancellationToken).Engine);
    }

    [Fact]
    public void ALongDigestCanBeStopped()
    {
        using var store = NamedState.Open(_directory.Path);
        var view = store.BeginBatch();
        for (var i = 0; i < 2000; i++)
        {
            view.Put(NamedState.Key(i), []);
        }

        store.Publish(1, 1, 0);
        Assert.Throws<OperationCanceledException>(() => store.ComputeDigest(new CancellationToken(canceled: true)));
    }
}
