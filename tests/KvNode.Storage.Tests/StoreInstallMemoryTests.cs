using System.Globalization;
using System.Text;
using KvNode.Storage.Snapshots;
using Xunit;

namespace KvNode.Storage.Tests;

/// <summary>What a large snapshot costs while it is installed.</summary>
[Collection(nameof(WholeProcess))]
public sealed class StoreInstallMemoryTests : IDisposable
{
    private readonly DiskTestDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void MemoryIsBoundedAndALargeSnapshotIsQuick()
    {
        const int Keys = 1_000_000;
        var header = new SnapshotHeader(7, 2, 0, Keys, []);
        using var stream = new SnapshotStream(header, new CountedSource(Keys));
        using var store = NamedState.Open(_directory.Path);
        using (var install = StoreInstall.Begin(store, NamedState.Manifest(header)))
        {
            var before = AnonymousBytes();
            var most = 0L;
            var commits = 0;
            install.CommitFailpoint = () =>
            {
                most = Math.Max(most, AnonymousBytes() - before);
                commits++;
            };
            var piece = new byte[1 << 20];
            for (int count; (count = stream.Read(piece)) > 0;)
            {
                install.Write(piece.AsSpan(0, count));
            }

            install.Commit();
            Assert.InRange(commits, 5, 20);
            Assert.InRange(most, 0, 64L << 20);
        }

        Assert.Equal(Keys, store.Status.Keys);
        using var view = store.OpenView();
        Assert.True(view.Exists(CountedSource.KeyAt(Keys - 1)));
    }

    // The process's memory without the pages of files, which the system takes back when it needs them.
    private static long AnonymousBytes()
    {
        var line = System.IO.File.ReadLines("/proc/self/status").First(l => l.StartsWith("RssAnon:", StringComparison.Ordinal));
        return long.Parse(line[8..^2].Trim(), CultureInfo.InvariantCulture) * 1024;
    }

    private sealed class CountedSource(int count) : IRecordSource
    {
        private readonly byte[] _value = Encoding.ASCII.GetBytes(new string('v', 100));
        private byte[] _key = [];
        private int _next;

        public ReadOnlySpan<byte> Key => _key;

        public ValueTag Tag => ValueTag.String;

        public ReadOnlySpan<byte> Value => _value;

        public static byte[] KeyAt(int i) => Encoding.ASCII.GetBytes($"key:{i:D16}");

        public bool MoveNext()
        {
            if (_next == count)
            {
                return false;
            }

            _key = KeyAt(_next++);
            return true;
        }

        public void Dispose()
        {
        }
    }
}
