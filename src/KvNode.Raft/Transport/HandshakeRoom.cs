namespace KvNode.Raft.Transport;

/// <summary>
/// Accepted connections that have not proven anything yet. When all places are taken, a further one gets the place of the oldest
/// that has not even said hello, or of the oldest: whoever only holds connections open locks nobody out.
/// </summary>
/// <param name="places">Several handshakes of honest nodes take a few milliseconds each.</param>
internal sealed class HandshakeRoom(int places, TransportOptions options)
{
    private readonly Lock _lock = new();

    // Under the lock, oldest first.
    private readonly List<Place> _taken = [];

    public Place Enter()
    {
        var entering = new Place(this, options);
        lock (_lock)
        {
            if (_taken.Count >= places)
            {
                var longest = Math.Max(0, _taken.FindIndex(static place => !place.HasHello));
                _taken[longest].Displace();
                _taken.RemoveAt(longest);
            }

            _taken.Add(entering);
        }

        return entering;
    }

    private void Leave(Place place)
    {
        lock (_lock)
        {
            _ = _taken.Remove(place);
        }
    }

    internal sealed class Place(HandshakeRoom room, TransportOptions options) : IDisposable
    {
        private readonly CancellationTokenSource _end = new(
            options.HelloTimeout < options.HandshakeTimeout ? options.HelloTimeout : options.HandshakeTimeout, options.Time);

        /// <summary>Cancelled when time is up, or another connection has the place.</summary>
        public CancellationToken End => _end.Token;

        public bool IsDisplaced { get; private set; }

        public bool HasHello { get; private set; }

        /// <summary>The hello has come, whole: the rest has its own time.</summary>
        public void OnHello()
        {
            HasHello = true;
            _end.CancelAfter(options.HandshakeTimeout);
        }

        /// <summary>Under the room's lock, while in the room: not disposed.</summary>
        public void Displace()
        {
            IsDisplaced = true;

            // Not on this thread: who waits goes on there.
            _ = _end.CancelAsync();
        }

        public void Dispose()
        {
            room.Leave(this);
            _end.Dispose();
        }
    }
}
