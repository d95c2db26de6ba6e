namespace KvNode.Server.Sessions;

/// <summary>
/// Connections that were accepted and have not said yet who they are, in the order they came. A feature of each connection,
/// so that whoever waits for its first words can say so, and whoever accepts can ask the oldest to go when room runs short.
/// </summary>
/// <remarks>Any thread. A peer says who it is in its first segment, a client with room is no newcomer: what stays here is mute.</remarks>
internal sealed class Newcomers
{
    private readonly Lock _lock = new();
    private readonly LinkedList<Stay> _stays = new();

    /// <summary>Begins a wait, which ends when the stay is disposed.</summary>
    /// <param name="time">Bounds the wait; cancelled when the newcomer is asked to go. Disposed after the stay.</param>
    public Stay Enter(CancellationTokenSource time)
    {
        var stay = new Stay(this, time);
        lock (_lock)
        {
            _stays.AddLast(stay.Place);
        }

        return stay;
    }

    /// <summary>Asks the one that has been mute for longest to go. Nothing when there is none.</summary>
    public void AskOldestToGo()
    {
        lock (_lock)
        {
            if (_stays.First is { } place)
            {
                _stays.Remove(place);
                place.Value.End();
            }
        }
    }

    private void Leave(LinkedListNode<Stay> place)
    {
        lock (_lock)
        {
            if (place.List is not null)
            {
                _stays.Remove(place);
            }
        }
    }

    /// <summary>One newcomer's wait.</summary>
    internal sealed class Stay : IDisposable
    {
        private readonly Newcomers _newcomers;
        private readonly CancellationTokenSource _time;

        public Stay(Newcomers newcomers, CancellationTokenSource time)
        {
            _newcomers = newcomers;
            _time = time;
            Place = new LinkedListNode<Stay>(this);
        }

        /// <summary>In the list until it ends.</summary>
        public LinkedListNode<Stay> Place { get; }

        /// <summary>It did not go by itself.</summary>
        public bool AskedToGo { get; private set; }

        public void Dispose() => _newcomers.Leave(Place);

        // Under the lock, without which the source might be disposed meanwhile; what waits for it goes on elsewhere.
        internal void End()
        {
            AskedToGo = true;
            _ = _time.CancelAsync();
        }
    }
}
